"""A recurrent network that has seen ten points of a sine says the next one.

Teaches: sequences as features, recurrent layers, mean squared error, a metric with its own name.

    taas run examples/sine --workers 2
    taas predict ./sine/model examples/sine/windows.csv

Two layers of 30 LSTM units, 3,000 steps of 32 windows. On 1,000 windows of a part of the curve
that it never saw the root of the mean squared error is below 0.005.
"""

from dataclasses import dataclass

import keras
import numpy as np

from trainer import data
from trainer.task import Params, TableInput, Task

WINDOW = 10
# Between two points, in radians.
GAP = 0.01


@dataclass(frozen=True)
class Sine(Params):
    """What -p name=value can set."""

    units: int = 30
    learning_rate: float = 0.003
    batch: int = 32
    steps: int = 3000
    seed: int = 1


def windows(first: int, count: int) -> data.Examples:
    """Return windows float32[10] that begin at points first, first + 1, ..., and what follows."""
    curve = np.sin(np.arange(first, first + count + WINDOW) * GAP).astype("float32")
    seen = np.lib.stride_tricks.sliding_window_view(curve, WINDOW)[:count]
    return data.arrays(seen, curve[WINDOW:])


def build(units: int) -> keras.Model:
    """Return the network: a window of values to the value after it."""
    # Ten steps are few enough to be written out, which is faster than a loop on a CPU.
    lstm = {"units": units, "unroll": True}
    return keras.Sequential(
        [
            keras.Input((WINDOW,)),
            keras.layers.Reshape((WINDOW, 1)),
            keras.layers.LSTM(**lstm, return_sequences=True),
            keras.layers.LSTM(**lstm),
            keras.layers.Dense(1),
        ]
    )


def task(params: Sine) -> Task:
    """Train on 10,000 windows, test with the 1,000 after them."""
    return Task(
        model=lambda: build(params.units),
        loss="mse",
        optimizer=lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(params.learning_rate, params.steps)
        ),
        metrics=[keras.metrics.RootMeanSquaredError(name="rmse")],
        train=windows(0, 10_000),
        test=windows(10_000, 1000),
        global_batch=params.batch,
        steps=params.steps,
        seed=params.seed,
        inputs=TableInput([f"t{step}" for step in range(WINDOW)]),
    )
