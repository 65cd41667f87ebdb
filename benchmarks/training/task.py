"""The training as a task of the service; the bare loop takes model, loss and batch from it too."""

from dataclasses import dataclass
from pathlib import Path

import keras

from benchmarks.training import networks
from trainer import data
from trainer.task import ImageInput, Params, Task

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Training(Params):
    """What the benchmark sets."""

    network: str = "lenet5"
    batch: int = 128
    steps: int = 1000
    seed: int = 1


def task(params: Training) -> Task:
    """Make steps and nothing else."""
    digits, _ = data.mnist(DATA)
    return Task(
        model=lambda: networks.build(keras, params.network),
        loss=networks.loss(keras),
        optimizer=lambda: networks.optimizer(keras),
        metrics=["accuracy"],
        train=digits.take(networks.EXAMPLES),
        global_batch=params.batch,
        steps=params.steps,
        seed=params.seed,
        inputs=ImageInput(28, 28, 1, scale=1 / 255),
    )
