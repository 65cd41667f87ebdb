"""The networks and the digits that all sides train. Works with Keras 3 and with tf_keras."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("lenet5", "dense")
# How many of the 60,000 digits are trained on, as in the demo.
EXAMPLES = 55_000
LEARNING_RATE = 0.001


def build(keras: Any, name: str) -> Any:
    """Return a network: LeNet-5 (61,706 parameters) or a fully connected one (3.3 million)."""
    hidden = {"lenet5": _lenet5, "dense": _dense}[name](keras.layers)
    return keras.Sequential([keras.Input((28, 28, 1)), *hidden, keras.layers.Dense(10)])


def _lenet5(layers: Any) -> list[Any]:
    return [
        layers.Conv2D(6, 5, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(120, activation="relu"),
        layers.Dense(84, activation="relu"),
    ]


def _dense(layers: Any) -> list[Any]:
    return [
        layers.Flatten(),
        layers.Dense(1500, activation="relu"),
        layers.Dense(1400, activation="relu"),
    ]


def loss(keras: Any) -> Any:
    """Return what they minimize."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def optimizer(keras: Any) -> Any:
    """Return how they do it."""
    return keras.optimizers.Adam(LEARNING_RATE)


def digits(folder: Path) -> tuple[Any, Any]:
    """Return pictures between 0 and 1 and their labels, of a folder with MNIST's files."""
    pixels, labels = (
        np.frombuffer(
            gzip.decompress((folder / f"train-{name}-ubyte.gz").read_bytes()), np.uint8, offset=skip
        )
        # A header is 4 bytes and 4 more for each axis.
        for name, skip in (("images-idx3", 16), ("labels-idx1", 8))
    )
    pictures = pixels.reshape(-1, 28, 28, 1)[:EXAMPLES].astype("float32") / 255
    return pictures, labels[:EXAMPLES].astype("int64")
