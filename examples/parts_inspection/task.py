"""Parts inspection: does a steel pin pass, given its length, diameter, weight and roughness?

Teaches: a table as data, one sigmoid output, cross entropy and mean squared error for the same
question, named classes, and asking the model about a table of new parts.

    taas run examples/parts_inspection
    taas run examples/parts_inspection -p loss=mse
    taas predict ./parts-inspection/model examples/parts_inspection/new_parts.csv

4,000 parts, written by make_parts.py: four fifths to train on, the rest to test with. About 0.97
of those are judged right with either loss; the others are so close to a limit that the errors of
the instruments decide. A column that the model does not know, such as the verdict in
new_parts.csv, is left out by `predict`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras

from trainer import data
from trainer.task import Params, TableInput, Task

MEASURED = ("length_mm", "diameter_mm", "weight_g", "roughness_um")
VERDICTS = ("fail", "pass")
LOSSES = {
    "crossentropy": keras.losses.BinaryCrossentropy(),
    "mse": keras.losses.MeanSquaredError(),
}


@dataclass(frozen=True)
class Inspection(Params):
    """What -p name=value can set."""

    loss: Literal["crossentropy", "mse"] = "crossentropy"
    hidden: tuple[int, ...] = (32, 32)
    learning_rate: float = 0.01
    batch: int = 100
    steps: int = 1500
    seed: int = 1


def task(params: Inspection) -> Task:
    """Train on 3,200 parts, test with 800."""
    parts = data.csv(
        Path(__file__).with_name("parts.csv"), features=MEASURED, label="verdict", classes=VERDICTS
    )
    train, test = parts.split(0.8, seed=params.seed)
    mean, variance = data.moments(train)

    def build() -> keras.Model:
        hidden = [keras.layers.Dense(units, activation="relu") for units in params.hidden]
        return keras.Sequential(
            [
                keras.Input((len(MEASURED),)),
                keras.layers.Normalization(mean=mean, variance=variance),
                *hidden,
                keras.layers.Dense(1, activation="sigmoid"),
            ]
        )

    return Task(
        model=build,
        loss=LOSSES[params.loss],
        optimizer=lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(params.learning_rate, params.steps)
        ),
        metrics=["accuracy"],
        train=train,
        test=test,
        global_batch=params.batch,
        steps=params.steps,
        seed=params.seed,
        inputs=TableInput(MEASURED),
    )
