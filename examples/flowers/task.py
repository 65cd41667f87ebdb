"""Flowers in photos: tell daisies, dandelions, roses, sunflowers and tulips apart.

Teaches: photos from folders, divided by content; decoded once, kept, and augmented in parallel; a
residual network from nothing; with weights of the user's, Inception-v3 by transfer (a frozen part,
computed once) and by fine-tuning.

    taas run examples/flowers --workers 2                     # the 400 photos that lie beside
    taas run examples/flowers --workers 2 -p photos=/data/flower_photos
    taas run examples/flowers --workers 2 -p weights=/data/inception_v3_notop.h5 -p train=head
    taas run examples/flowers --workers 2 -p weights=/data/inception_v3_notop.h5 -p train=all

What comes out: examples/flowers/README.md
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import inception
import keras
import network

from trainer import data
from trainer.task import ImageInput, Params, Task, TaskError

BESIDE = Path(__file__).parent / "photos"
# Which photos are held out is a function of their bytes and of this number.
SPLIT = 1
# From nothing: photos are kept at this size, and crops of them are learned from at SIZE.
KEPT, SIZE = 96, 64


@dataclass(frozen=True)
class Flowers(Params):
    """What can be set from the command line: -p photos=/data/flower_photos."""

    # A folder with one sub-folder a class, that every worker can read; "": those that lie beside.
    photos: str = ""
    # A file with weights of Inception-v3, that every worker can read; "": train from nothing.
    weights: str = ""
    # With weights: the last layer alone, or all layers.
    train: Literal["head", "all"] = "head"
    # Of the photos that Inception-v3 sees.
    size: int = 299
    # 0: what suits the way of training.
    steps: int = 0
    batch: int = 0
    learning_rate: float = 0.0
    seed: int = 1


def task(params: Flowers) -> Task:
    """Train on four fifths of the photos, and judge by the rest."""
    if not params.weights:
        return from_nothing(params)
    if params.size < 75:
        raise TaskError(f"size={params.size}: Inception-v3 needs photos of 75 pixels or more")
    return transferred(params) if params.train == "head" else tuned(params)


def from_nothing(params: Flowers) -> Task:
    """Train the residual network."""
    train, _ = photos(params, KEPT)
    _, held_out = photos(params, SIZE)
    batch = params.batch or 64
    steps = params.steps or round(40 * train.size / batch)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps,
        warmup_target=params.learning_rate or 0.004,
        warmup_steps=max(1, steps // 20),
    )
    return Task(
        model=lambda: network.residual(SIZE, len(train.class_names)),
        optimizer=lambda: keras.optimizers.AdamW(rate, weight_decay=0.02),
        train=train.cache().augment(data.vary_photos(size=(SIZE, SIZE), smallest=0.35)),
        validation=held_out.cache(),
        global_batch=batch,
        steps=steps,
        **common(params, SIZE),
    )


def transferred(params: Flowers) -> Task:
    """Train a last layer on what Inception-v3 says of each photo, which is computed once."""
    train, held_out = photos(params, params.size)
    return Task(
        frozen=lambda: inception.backbone(params.size, params.weights),
        model=lambda: inception.head(len(train.class_names)),
        optimizer=lambda: keras.optimizers.SGD(params.learning_rate or 0.01, momentum=0.9),
        train=train,
        validation=held_out,
        global_batch=params.batch or 100,
        steps=params.steps or 4000,
        evaluate_every=500,
        **common(params, params.size),
    )


def tuned(params: Flowers) -> Task:
    """Train all of Inception-v3 a little further."""
    train, held_out = photos(params, params.size)
    size = (params.size, params.size)
    batch = params.batch or 32
    return Task(
        model=lambda: inception.tuned(params.size, params.weights, len(train.class_names)),
        optimizer=lambda: keras.optimizers.RMSprop(params.learning_rate or 1e-4),
        train=train.augment(data.vary_photos(size=size, smallest=0.6)),
        validation=held_out,
        global_batch=batch,
        steps=params.steps or round(5 * train.size / batch),
        **common(params, params.size),
    )


def photos(params: Flowers, size: int) -> tuple[data.Examples, data.Examples]:
    """Return photos to learn from and held-out ones, of that size, the same at any size."""
    folder = Path(params.photos) if params.photos else BESIDE
    return data.image_folder(folder, size=(size, size)).split(0.8, seed=SPLIT)


def common(params: Flowers, size: int) -> dict:
    """Return what all ways of training have in common."""
    return {
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
        "seed": params.seed,
        "inputs": ImageInput(size, size, scale=1 / 127.5, offset=-1.0),
    }
