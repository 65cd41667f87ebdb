"""A small training that takes a few thousand steps: big enough to be killed in the middle."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from trainer import data
from trainer.task import Params, Task


@dataclass(frozen=True)
class Small(Params):
    """How long, and how it goes wrong."""

    steps: int = 400
    batch: int = 24
    seed: int = 7
    fail: str = ""
    # Steps between looks at a validation set; 0: there is none.
    validate_every: int = 0
    # Megabytes that each checkpoint holds besides, so that a save and a restore last.
    ballast: int = 0


class Ballast(keras.layers.Layer):
    """Gives back what it is given, and has weights that nothing changes."""

    def __init__(self, megabytes: int) -> None:
        """Have that many."""
        super().__init__()
        self.megabytes = megabytes

    def build(self, _: object) -> None:
        """Make the weights: whole numbers, which are not averaged over the workers."""
        shape = (self.megabytes * 2**18,)
        self.add_weight(shape=shape, dtype="int32", initializer="ones", trainable=False)

    def call(self, inputs: Any) -> Any:
        """Return the inputs."""
        return inputs


def task(params: Small) -> Task:
    """Learn which of four corners of a plane a point is in, with dropout."""
    if params.fail == "data":
        data.image_folder("no/such/folder", size=(8, 8))
    random = np.random.default_rng(5)
    points = random.normal(size=(1000, 2)).astype("float32")
    corners = ((points[:, 0] > 0) * 2 + (points[:, 1] > 0)).astype("int32")

    def model() -> keras.Model:
        if params.fail == "model":
            raise ValueError("this network cannot be built")
        return keras.Sequential(
            [
                keras.Input((2,)),
                *([Ballast(params.ballast)] if params.ballast else []),
                keras.layers.Dense(32, activation="relu"),
                keras.layers.Dropout(0.2),
                keras.layers.Dense(4),
            ]
        )

    return Task(
        model=model,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=lambda: keras.optimizers.Adam(0.005),
        metrics=["accuracy"],
        train=data.arrays(points[:800], corners[:800]),
        test=data.arrays(points[800:], corners[800:]),
        validation=data.arrays(points[800:], corners[800:]) if params.validate_every else None,
        evaluate_every=params.validate_every,
        global_batch=params.batch,
        steps=params.steps,
        seed=params.seed,
    )
