"""Fisher's irises: three species told apart by four lengths.

Teaches: a CSV file as data, normalized inputs, softmax cross entropy over named classes.

    taas run examples/iris
    taas predict ./iris/model examples/iris/iris.csv

Two layers of 10 units, 400 steps of 40 flowers, on 120 of the 150 rows. At least 28 of the other
30 are told right (0.93). Normalization is a part of the model, so `predict` takes centimetres.

iris.csv: R. A. Fisher, "The use of multiple measurements in taxonomic problems", 1936, after
E. Anderson's measurements; in the public domain.
"""

from dataclasses import dataclass
from pathlib import Path

import keras

from trainer import data
from trainer.task import Params, TableInput, Task

LENGTHS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


@dataclass(frozen=True)
class Iris(Params):
    """What -p name=value can set."""

    hidden: tuple[int, ...] = (10, 10)
    learning_rate: float = 0.01
    batch: int = 40
    steps: int = 400
    seed: int = 1


def task(params: Iris) -> Task:
    """Train on 120 flowers, test with 30."""
    flowers = data.csv(Path(__file__).with_name("iris.csv"), features=LENGTHS, label="species")
    train, test = flowers.split(0.8, seed=params.seed)
    mean, variance = data.moments(train)

    def build() -> keras.Model:
        hidden = [keras.layers.Dense(units, activation="relu") for units in params.hidden]
        return keras.Sequential(
            [
                keras.Input((len(LENGTHS),)),
                keras.layers.Normalization(mean=mean, variance=variance),
                *hidden,
                keras.layers.Dense(3),
            ]
        )

    return Task(
        model=build,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=lambda: keras.optimizers.Adam(params.learning_rate),
        metrics=["accuracy"],
        train=train,
        test=test,
        global_batch=params.batch,
        steps=params.steps,
        seed=params.seed,
        inputs=TableInput(LENGTHS),
    )
