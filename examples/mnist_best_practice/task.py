"""A long training in the form that a project keeps: network, training and evaluation apart.

Teaches: a program of several modules, checkpoints that a restart goes on from, a look at the
validation set each 1,000 steps, and asking the result from a program that knows nothing of how it
was trained.

    network.py     the network
    task.py        how it is trained
    job.yaml       where it runs, and a checkpoint each 1,000 steps
    evaluate.py    what the result is worth; needs only TensorFlow and the exported model

    taas run examples/mnist_best_practice/job.yaml --workers 2
    python examples/mnist_best_practice/evaluate.py mnist-best-practice/model
    taas predict ./mnist-best-practice/model examples/mnist_lenet5/pictures/seven.png

30,000 steps of 100 digits. `taas watch` shows the validation accuracy of the averaged weights each
1,000 steps; the recipe ends at 0.985 (what it reached here: examples/README.md). The workers
compute it together between two steps. `taas checkpoints mnist-best-practice` lists the newest
three and the best one; kill what you like while it trains, it goes on from the newest.
"""

from dataclasses import dataclass
from pathlib import Path

import keras
import network

from trainer import data
from trainer.task import ImageInput, Params, Task

# One copy of the digits for all examples; job.yaml sends the folder above this one.
DATA = Path(__file__).parents[1] / "mnist_lenet5" / "data"


@dataclass(frozen=True)
class Training(Params):
    """What -p name=value can set."""

    hidden: int = 500
    l2: float = 1e-4
    learning_rate: float = 0.8
    decay: float = 0.99
    ema: float = 0.99
    batch: int = 100
    steps: int = 30_000
    evaluate_every: int = 1000
    seed: int = 1


def task(params: Training) -> Task:
    """Train on 55,000 digits, validate with 5,000, test with 10,000."""
    digits, test = data.mnist(DATA)
    train = digits.take(55_000)
    return Task(
        model=lambda: network.build(hidden=params.hidden, l2=params.l2),
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
        evaluate_every=params.evaluate_every,
        seed=params.seed,
        ema=params.ema,
        inputs=ImageInput(network.PIXELS, network.PIXELS, 1, scale=1 / 255),
    )
