"""Devices: several of them in one worker, and what must leave them alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from tests.training import groups, programs
from trainer import data, loop, progress, snapshot, stopping, task
from trainer.checkpoints import Checkpoints
from trainer.contract import Assignment, Checkpointing
from trainer.learner import Learner
from trainer.storage import JobPaths

pytestmark = pytest.mark.training


def mirrored(devices: int) -> Any:
    """Return a strategy with so many replicas; the CPU can be split before TensorFlow runs only."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])


def _train(devices: int, source: str, folder: str) -> None:
    """Run the loop under MirroredStrategy and leave the variables in the folder."""
    stop = stopping.Stop()
    strategy = mirrored(devices)
    keras.utils.set_random_seed(3)
    learner = Learner(task.load(Path(source), "task.py", {}), strategy)
    reports = progress.Reports(None)
    assignment = Assignment(
        namespace="default",
        job="test",
        job_uid="uid",
        generation=1,
        module="task.py",
        source_digest="",
        checkpointing=Checkpointing(every_seconds=3600),
        storage_root=folder,
    )
    paths = JobPaths(Path(folder), "default", "test", "uid")
    checkpoints = Checkpoints(
        paths,
        generation=1,
        policy=assignment.checkpointing,
        on_saved=lambda _: None,
        on_failed=lambda _: None,
    )
    chief = loop.Chief(
        progress.Records(paths.record_file(1), generation=1, reports=reports),
        progress.Curves(paths.output, on_failed=pytest.fail),
        progress.Curves(paths.output, on_failed=pytest.fail),
        reports,
    )
    training = loop.Loop(
        task=learner.task,
        learner=learner,
        checkpoints=checkpoints,
        assignment=assignment,
        reports=reports,
        stop=stop,
        chief=chief,
    )
    training.restore()
    assert training.train()
    assert training.conclude()
    checkpoints.finish()
    found = {
        "replicas": strategy.num_replicas_in_sync,
        "known": dict(training.known),
        "weights": [v.numpy().tolist() for v in learner.model.trainable_variables],
    }
    Path(folder, "found.json").write_text(json.dumps(found))


def run(devices: int, source: Path, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    groups.in_a_fork(folder / "log", _train, devices, str(source), str(folder))
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def test_two_replicas_in_one_worker_equal_one(tmp_path: Path) -> None:
    source = programs.write(tmp_path / "source", programs.GOOD)
    one, two = (run(n, source, tmp_path / str(n)) for n in (1, 2))
    assert (one["replicas"], two["replicas"]) == (1, 2)
    assert one["known"] == pytest.approx(two["known"], abs=1e-4)
    for first, second in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4)


def _save_and_restore(folder: str) -> None:
    strategy = mirrored(2)
    with strategy.scope():
        weights = tf.Variable(tf.zeros([100]))
        mean = tf.Variable(
            0.0,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
        )
    variables = {"weights": weights, "mean": mean}

    def add() -> None:
        weights.assign_add(tf.ones([100]))
        mean.assign_add(1.0)

    update = tf.function(lambda: strategy.run(add))
    update()
    values = snapshot.take(variables)
    update()
    assert values["weights"].numpy().tolist() == [1.0] * 100
    assert values["mean"].numpy() == 1.0
    snapshot.write(values, Path(folder))
    snapshot.restore(Path(folder), variables)
    for variable in variables.values():
        for local in strategy.experimental_local_results(variable):
            assert (local.numpy() == 1.0).all()
    update()
    assert weights.numpy().tolist() == [2.0] * 100


def test_mirrored_variables_are_saved_once_and_loaded_into_every_replica(tmp_path: Path) -> None:
    groups.in_a_fork(tmp_path / "log", _save_and_restore, str(tmp_path / "saved"))


def _open_data() -> None:
    examples = data.arrays(np.zeros((4, 2)), np.zeros(4)).map(lambda x, y: (x, y)).take(3)
    examples.split(0.5, seed=1)
    assert context.context()._context_handle is None


def test_opening_data_touches_no_device(tmp_path: Path) -> None:
    """Collectives must be configured before TensorFlow's context exists, and a warm process is
    forked before it does."""
    groups.in_a_fork(tmp_path / "log", _open_data)
