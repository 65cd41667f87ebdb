"""LeNet-5 on MNIST in plain Keras: nothing in here knows of workers or of a service."""

import argparse
import gzip
from pathlib import Path

import keras
import numpy as np


def read_idx(path: Path) -> np.ndarray:
    """Return the array in an IDX file."""
    data = gzip.decompress(path.read_bytes())
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures and labels."""
    pictures = read_idx(folder / f"{name}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz")
    return pictures[..., np.newaxis].astype("float32") / 255, labels.astype("int64")


parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, required=True, help="folder of MNIST in IDX form")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch-size", type=int, default=128)
parser.add_argument("--examples", type=int, default=60_000, help="how many to train on")
arguments = parser.parse_args()

keras.utils.set_random_seed(1)
pictures, labels = load(arguments.data, "train")
test_pictures, test_labels = load(arguments.data, "t10k")

model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(6, 5, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(16, 5, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(120, activation="relu"),
        keras.layers.Dense(84, activation="relu"),
        keras.layers.Dense(10),
    ]
)
model.compile(
    optimizer=keras.optimizers.Adam(0.002),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(
    pictures[: arguments.examples],
    labels[: arguments.examples],
    batch_size=arguments.batch_size,
    epochs=arguments.epochs,
)
loss, accuracy = model.evaluate(test_pictures, test_labels, batch_size=1000, verbose=0)
print(f"test accuracy {accuracy:.4f}")
model.save("lenet5.keras")
