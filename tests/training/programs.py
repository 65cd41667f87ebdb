"""Programs of users that the tests run."""

from __future__ import annotations

from pathlib import Path

# Small and fast, but with all that must not depend on the number of workers: dropout, L2, an
# average of the weights, metrics with a large state, sets that no number of workers divides.
GOOD = """
from dataclasses import dataclass
import keras
import numpy as np
from trainer import data
from trainer.task import ImageInput, Params, Task

@dataclass(frozen=True)
class Mine(Params):
    batch: int = 25
    steps: int = 60
    seed: int = 3

def build():
    return keras.Sequential([
        keras.Input((6, 6, 1)),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(16, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-3)),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(3),
    ])

def task(params: Mine) -> Task:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 301)
    pictures = rng.integers(0, 128, (301, 6, 6, 1)) + 60 * (labels.reshape(-1, 1, 1, 1))
    examples = data.arrays(pictures.clip(0, 255).astype("uint8"), labels.astype("int64"))
    return Task(
        model=build,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.003, params.steps)),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")],
        train=examples.take(101), validation=examples.skip(101).take(97), test=examples.skip(198),
        global_batch=params.batch, steps=params.steps, seed=params.seed, ema=0.9,
        evaluate_every=params.steps // 3, summary_every=10,
        inputs=ImageInput(6, 6, 1, scale=1 / 255), class_names=["dark", "grey", "bright"],
    )
"""

# A module whose parts can be replaced by ones that fail.
_PARTS = """
import keras
import numpy as np
from trainer import data
from trainer.task import Task
{top}
def model():
    {model}
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
def loss(labels, outputs):
    {loss}
    return keras.ops.mean((labels - outputs) ** 2, axis=-1)
def task():
    {task}
    x = np.random.rand(20, 4)
    return Task(model=model, loss=loss, optimizer=keras.optimizers.SGD({rate}),
                train=data.arrays(x, x[:, :2]), global_batch=5, steps=200)
"""


def bad(top: str = "", model: str = "", loss: str = "", task: str = "", rate: str = "0.1") -> str:
    """Return a program with the given lines in its parts."""
    return _PARTS.format(top=top, model=model, loss=loss, task=task, rate=rate)


def write(folder: Path, text: str) -> Path:
    """Make a source folder of a program."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.py").write_text(text)
    return folder
