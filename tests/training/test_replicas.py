"""Several replicas in one worker: two logical devices give what one gives."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training import programs
from tests.training.groups import TIMEOUT_S, context
from trainer import lifeline
from trainer.contract import Checkpointing
from trainer.storage import JobPaths

pytestmark = pytest.mark.training


def _train(devices: int, source: str, folder: str) -> None:
    """Run the loop under MirroredStrategy and leave the variables in the folder."""
    lifeline.die_with(os.getppid())
    os.dup2(os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    import keras
    import tensorflow as tf

    from trainer import loop, progress, stopping, task
    from trainer.checkpoints import Checkpoints
    from trainer.learner import Learner

    stop = stopping.Stop()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
    )
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])
    keras.utils.set_random_seed(3)
    learner = Learner(task.load(Path(source), "task.py", {}), strategy)
    reports = progress.Reports(None)
    paths = JobPaths(Path(folder), "default", "test", "uid")
    policy = Checkpointing(every_seconds=3600)
    checkpoints = Checkpoints(
        paths, generation=1, policy=policy, on_saved=lambda _: None, on_failed=lambda _: None
    )
    chief = loop.Chief(
        progress.Records(paths.record_file(1), generation=1, reports=reports),
        progress.Curves(paths.output, on_failed=pytest.fail),
    )
    training = loop.Loop(
        task=learner.task,
        learner=learner,
        checkpoints=checkpoints,
        policy=policy,
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
    os._exit(0)


def run(devices: int, source: Path, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    process = context.Process(target=_train, args=(devices, str(source), str(folder)))
    process.start()
    process.join(TIMEOUT_S)
    assert process.exitcode == 0, (folder / "log").read_text()[-3000:]
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def test_two_replicas_in_one_worker_equal_one(tmp_path: Path) -> None:
    source = programs.write(tmp_path / "source", programs.GOOD)
    one, two = (run(n, source, tmp_path / str(n)) for n in (1, 2))
    assert (one["replicas"], two["replicas"]) == (1, 2)
    assert one["known"] == pytest.approx(two["known"], abs=1e-4)
    for first, second in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4)
