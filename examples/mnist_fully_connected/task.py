"""A fully connected network reads MNIST's digits, and five switches show what each trick is worth.

Teaches: layers and activations, softmax cross entropy, minibatches, a learning rate that falls in
steps, L2, a moving average of the weights, and training, validation and test set.

    taas run examples/mnist_fully_connected/job.yaml --workers 2
    taas predict ./mnist-fc/model examples/mnist_lenet5/pictures/seven.png

The recipe: 784-500-10 with ReLU, 5,000 steps of 100 digits with plain SGD. It reaches 0.982 on the
10,000 digits of the test set. Without one of its parts (all numbers: examples/README.md):

    -p l2=0                                        no L2
    -p ema=none                                    no moving average
    -p learning_rate=0.1 -p decay=1                a fixed learning rate
    -p activation=linear -p learning_rate=0.01     no activation: a linear model in two layers
    -p hidden=0 -p learning_rate=0.01              no hidden layer

The global batch is the recipe's 100 however many workers share it, so 1, 2 and 3 workers have the
same losses. `--name no-l2` gives each experiment a name of its own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras

from trainer import data
from trainer.task import ImageInput, Params, Task

# One copy of the digits for all examples; job.yaml sends the folder above this one.
DATA = Path(__file__).parents[1] / "mnist_lenet5" / "data"


@dataclass(frozen=True)
class FullyConnected(Params):
    """What -p name=value can set."""

    hidden: int = 500
    activation: Literal["relu", "linear"] = "relu"
    learning_rate: float = 0.8
    # The learning rate is multiplied by this after each pass over the training digits.
    decay: float = 0.99
    l2: float = 1e-4
    ema: float | None = 0.99
    batch: int = 100
    steps: int = 5000
    seed: int = 1


def build(params: FullyConnected) -> keras.Model:
    """Return the network; with hidden=0 it has its output layer only."""

    def dense(units: int, activation: str | None) -> keras.layers.Dense:
        return keras.layers.Dense(
            units,
            activation,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.1),
            bias_initializer=keras.initializers.Constant(0.1),
            # The recipe's penalty is half the sum of the squares.
            kernel_regularizer=keras.regularizers.L2(params.l2 / 2),
        )

    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten()]
    if params.hidden:
        layers.append(dense(params.hidden, params.activation))
    return keras.Sequential([*layers, dense(10, None)])


def task(params: FullyConnected) -> Task:
    """Train on 55,000 digits, validate with 5,000, test with 10,000."""
    digits, test = data.mnist(DATA)
    train = digits.take(55_000)
    return Task(
        model=lambda: build(params),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(
                params.learning_rate, train.size // params.batch, params.decay, staircase=True
            )
        ),
        metrics=["accuracy"],
        train=train,
        validation=digits.skip(55_000),
        test=test,
        global_batch=params.batch,
        steps=params.steps,
        seed=params.seed,
        ema=params.ema,
        inputs=ImageInput(28, 28, 1, scale=1 / 255),
    )
