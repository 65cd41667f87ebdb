"""Programs in the shape of those that people bring: the examples of TensorFlow and of Kubeflow.

Each folder is what its model is: a program that knows of TensorFlow and TF_CONFIG, and of nothing
else here. They are written anew, and smaller.

- keras_tutorial: tensorflow.org/tutorials/distribute/multi_worker_with_keras
- loop_tutorial: tensorflow.org/tutorials/distribute/multi_worker_with_ctl
- kubeflow_mnist: multi_worker_strategy-with-keras.py of Kubeflow's TFJob. As its model it needs the
  Keras before 3 (`optimizer.lr`, a model that is saved as a folder).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import taas
from protos.taas.v1.job_pb2 import PHASE_SUCCEEDED, TrainingJobSpec
from tests.training import packages
from trainer.data.idx import read_idx

_HERE = Path(__file__).parent
_MNIST = _HERE.parents[1] / "examples" / "mnist_lenet5" / "data"
# Enough to learn something of in seconds.
_DIGITS = 1200
# The Keras before 3 that belongs to the installed TensorFlow.
LEGACY_KERAS = "tf-keras==2.21.0"


@dataclass(frozen=True)
class Shape:
    """A program, and how people would submit it."""

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    # What its chief leaves, besides much else.
    leaves: tuple[str, ...] = ()

    def folder(self, parent: Path) -> Path:
        """Make a folder of the program, as its author would have it, with digits to learn."""
        folder = parent / self.name
        shutil.copytree(_HERE / self.name, folder, ignore=shutil.ignore_patterns("__pycache__"))
        x = read_idx(_MNIST / "train-images-idx3-ubyte.gz")[:_DIGITS]
        y = read_idx(_MNIST / "train-labels-idx1-ubyte.gz")[:_DIGITS]
        np.savez_compressed(folder / "digits.npz", x=x, y=y)
        if self.env:
            package = packages.folder_of(LEGACY_KERAS) / "tf_keras"
            shutil.copytree(package, folder / package.name)
        return folder


SHAPES = (
    Shape("keras_tutorial", "main.py", leaves=("saved/model.keras",)),
    Shape("loop_tutorial", "main.py"),
    Shape(
        "kubeflow_mnist",
        "train.py",
        arguments=("--saved_model_dir", "saved", "--checkpoint_dir", "checkpoints"),
        env={"TF_USE_LEGACY_KERAS": "1"},
        leaves=("saved/saved_model.pb", "checkpoints/checkpoint", "logs/train"),
    ),
)


def check(client: taas.Client, shape: Shape, folder: Path) -> None:
    """Submit a program as it is, with one, two and three workers side by side, and see them end."""
    source = shape.folder(folder)
    jobs = {}
    for workers in (1, 2, 3):
        submitted = client.submit(
            source,
            name=f"{shape.name.replace('_', '-')}-{workers}",
            script=shape.script,
            arguments=shape.arguments,
            workers=workers,
            spec=TrainingJobSpec(env=shape.env),
        )
        jobs[workers] = submitted.name
    for workers, job in jobs.items():
        _check_end(client, shape, job, workers, folder / f"got-{workers}")


def _check_end(client: taas.Client, shape: Shape, job: str, workers: int, to: Path) -> None:
    """All workers must have learned the same, and the chief's files must come down, alone."""
    status = client.wait(job).status
    log = "".join(piece.text for piece in client.logs(job))
    assert (status.phase, status.restarts) == (PHASE_SUCCEEDED, 0), log
    told = [json.loads(line) for line in log.splitlines() if line.startswith('{"workers"')]
    assert told == [told[0]] * workers, log
    assert told[0]["workers"] == workers
    assert told[0]["accuracy"] > 0.5
    if shape.leaves:
        client.download(job, to)
    for name in shape.leaves:
        assert (to / name).exists(), sorted(to.rglob("*"))
    assert not list(to.rglob("worker*"))
