"""What a platform does for a program, and where the program says so: the smallest whole task.

Teaches: the division of labour. The program brings a model and says how long; it holds no loop, no
session, no saver, no writer.

    what                                       who says it      where
    a model, its loss, its optimizer           the program      Task.model, .loss, .optimizer
    so many steps                              the program      Task.steps
    a point of the curves every N steps        the program      Task.summary_every
    what the exported model takes              the program      Task.inputs
    a checkpoint every S seconds               who runs it      job.yaml, checkpoints
    to begin from the newest sound checkpoint  the service      by itself
    a SavedModel at the end                    the service      by itself

    taas submit examples/task_contract/job.yaml
    taas watch contract
    taas suspend contract
    taas resume contract
    taas download contract
    tensorboard --logdir contract/tensorboard
    taas predict ./contract/model examples/mnist_lenet5/pictures/two.png

After `resume` the history says which checkpoint the training was restored from, and the curves go
on at that step. The model is one layer, softmax regression: it reads about nine of ten digits.
"""

from dataclasses import dataclass
from pathlib import Path

import keras

from trainer import data
from trainer.task import ImageInput, Params, Task

# One copy of the digits for all examples; job.yaml sends the folder above this one.
DATA = Path(__file__).parents[1] / "mnist_lenet5" / "data"


@dataclass(frozen=True)
class Contract(Params):
    """What -p name=value can set."""

    steps: int = 20_000
    summary_every: int = 100


def task(params: Contract) -> Task:
    """Softmax regression of the pixels."""
    train, test = data.mnist(DATA)
    return Task(
        model=lambda: keras.Sequential(
            [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=lambda: keras.optimizers.SGD(0.1),
        metrics=["accuracy"],
        train=train,
        test=test,
        global_batch=100,
        steps=params.steps,
        summary_every=params.summary_every,
        inputs=ImageInput(28, 28, 1, scale=1 / 255),
    )
