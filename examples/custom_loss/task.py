"""A loss of one's own: too little costs ten times as much as too much, or the other way round.

Teaches: a loss is a function (labels, outputs) that gives one number for each example.

    taas run examples/custom_loss
    taas run examples/custom_loss -p too_little=1 -p too_much=10
    taas predict ./custom-loss/model examples/custom_loss/unit_rows.csv

A linear model without a constant learns x1 + x2 from 128 noisy rows. Where too little is dear it
promises more than it saw, weights about [1.02, 1.04]; where too much is dear less, about
[0.96, 0.98]. The rows of unit_rows.csv, (1, 0) and (0, 1), get the weights themselves as answers.
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from trainer import data
from trainer.task import Params, TableInput, Task


@dataclass(frozen=True)
class Costs(Params):
    """What -p name=value can set."""

    too_little: float = 10.0
    too_much: float = 1.0
    learning_rate: float = 0.01
    batch: int = 8
    steps: int = 5000


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return the 128 rows of the recipe: float32[128, 2], and x1 + x2 with noise of +-0.05."""
    random = np.random.RandomState(1)
    x = random.rand(128, 2)
    y = x.sum(axis=1) + random.rand(128) / 10 - 0.05
    return x.astype("float32"), y.astype("float32")


def task(params: Costs) -> Task:
    """Train on all rows; there is nothing to generalize."""

    def cost(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        error = outputs[:, 0] - labels
        return tf.where(error > 0, params.too_much * error, -params.too_little * error)

    examples = data.arrays(*rows())
    return Task(
        model=lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)]),
        loss=cost,
        optimizer=lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(params.learning_rate, params.steps)
        ),
        train=examples,
        test=examples,
        global_batch=params.batch,
        steps=params.steps,
        inputs=TableInput(["x1", "x2"]),
    )
