"""LeNet-5 on MNIST: 60,000 handwritten digits, and a model that reads them.

Teaches: convolution and pooling, dropout, L2, a learning rate that falls along a cosine.

    taas run examples/mnist_lenet5 --workers 2
    taas predict ./mnist-lenet5/model examples/mnist_lenet5/pictures/seven.png

Three passes over the data; about 0.992 on the 10,000 digits of the test set.
"""

from dataclasses import dataclass
from pathlib import Path

import keras

from trainer import data
from trainer.task import ImageInput, Params, Task

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class LeNet5(Params):
    """What can be set from the command line: -p learning_rate=0.01."""

    learning_rate: float = 0.002
    batch: int = 250
    epochs: float = 3
    dropout: float = 0.5
    l2: float = 1e-4
    seed: int = 1


def build(params: LeNet5) -> keras.Model:
    """Return the network: two convolutions with pooling, then two dense layers."""
    l2 = keras.regularizers.L2(params.l2)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 5, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 5, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(512, activation="relu", kernel_regularizer=l2),
            keras.layers.Dropout(params.dropout),
            keras.layers.Dense(10, kernel_regularizer=l2),
        ]
    )


def task(params: LeNet5) -> Task:
    """Train on 55,000 digits, watch 5,000, and report on the 10,000 of the test set."""
    digits, test = data.mnist(DATA)
    train = digits.take(55_000)
    steps = round(params.epochs * train.size / params.batch)
    return Task(
        model=lambda: build(params),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(params.learning_rate, steps)
        ),
        metrics=["accuracy"],
        train=train,
        validation=digits.skip(55_000),
        test=test,
        global_batch=params.batch,
        steps=steps,
        seed=params.seed,
        inputs=ImageInput(28, 28, 1, scale=1 / 255),
    )
