"""The writer of checkpoints: beside training, and through failing storage."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from tests.unit.checkpoint_job import TIMEOUT_S, Job
from trainer.checkpoints import Checkpoints, StorageError
from trainer.contract import Checkpointing
from trainer.saves import RETRY_S
from trainer.storage import Manifest


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


class Held:
    """A writer that waits, in the report of its first save, until it is let go."""

    def __init__(self, job: Job) -> None:
        self.entered, self.let_go = threading.Event(), threading.Event()

        def on_saved(manifest: Manifest) -> None:
            job.saved.append(manifest)
            self.entered.set()
            assert self.let_go.wait(TIMEOUT_S)

        self.checkpoints = Checkpoints(
            job.paths,
            generation=1,
            policy=Checkpointing(),
            on_saved=on_saved,
            on_failed=job.failed.append,
        )


def test_a_newer_save_takes_the_place_of_the_one_that_waits(job: Job) -> None:
    held = Held(job)
    for step in (10, 20, 30, 40):
        job.assign(step)
        held.checkpoints.save(step, job.variables, {})
        assert held.entered.wait(TIMEOUT_S)
    held.let_go.set()
    job.assign(-1)
    held.checkpoints.finish()
    assert [m.step for m in job.saved] == [10, 40]
    assert job.loaded(job.generation(2).choose()) == 40


def test_a_step_is_saved_once(job: Job) -> None:
    held = Held(job)
    held.checkpoints.save(10, job.variables, {})
    assert held.entered.wait(TIMEOUT_S)
    held.checkpoints.save(10, job.variables, {})
    held.let_go.set()
    held.checkpoints.finish()
    held.checkpoints.save(10, job.variables, {})
    held.checkpoints.finish()
    assert [m.step for m in job.saved] == [10]
    assert job.failed == []


def test_a_defect_of_a_listener_reaches_the_training(job: Job) -> None:
    def on_saved(manifest: Manifest) -> None:
        raise ZeroDivisionError

    checkpoints = Checkpoints(
        job.paths,
        generation=1,
        policy=Checkpointing(),
        on_saved=on_saved,
        on_failed=job.failed.append,
    )
    checkpoints.save(10, job.variables, {})
    with pytest.raises(ZeroDivisionError):
        checkpoints.finish()
    assert job.steps() == [10]


# Failing writes.


def test_a_failed_save_is_told_harms_nothing_and_is_tried_again(job: Job) -> None:
    checkpoints = job.generation(1, every_steps=10)
    job.save(checkpoints, 10)
    hidden = job.paths.checkpoints.with_name("hidden")
    job.paths.checkpoints.rename(hidden)
    job.paths.checkpoints.write_text("a file where a folder should be")
    job.assign(20)
    checkpoints.save(20, job.variables, {})
    with pytest.raises(StorageError, match=r"step 20 was not saved.*Not a directory"):
        checkpoints.finish(patience_s=0)
    (message,) = job.failed
    assert str(job.folder(20)) in message
    job.paths.checkpoints.unlink()
    hidden.rename(job.paths.checkpoints)
    assert not checkpoints.due(25, 0.0)
    assert checkpoints.due(30, 0.0)
    assert checkpoints.due(25, RETRY_S)
    # The same step may be tried again, too: the one at the end of a training.
    job.save(checkpoints, 20)
    assert [m.step for m in job.saved] == [10, 20]
    assert job.steps() == [20, 10]


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process can grow beyond 20 kB: a real error of a real write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_runs_out_of_room_is_a_failed_save(job: Job, full_disk: None) -> None:
    checkpoints = job.generation(1)
    job.save(checkpoints, 10)
    small = job.variables.pop("layer/weights")
    job.variables["big"] = tf.Variable(tf.zeros([100_000]))
    job.assign(20)
    checkpoints.save(20, job.variables, {})
    with pytest.raises(StorageError, match=r"step 20 was not saved.*File too large"):
        checkpoints.finish(patience_s=0)
    assert not job.folder(20).exists()
    del job.variables["big"]
    job.variables["layer/weights"] = small
    assert job.loaded(job.generation(2).choose()) == 10
    job.save(checkpoints, 30)
    assert job.steps() == [30, 10]


def test_the_last_save_is_tried_until_there_is_room(job: Job) -> None:
    job.paths.checkpoints.parent.mkdir(parents=True)
    job.paths.checkpoints.write_text("a file where a folder should be")
    told = threading.Event()
    checkpoints = Checkpoints(
        job.paths,
        generation=1,
        policy=Checkpointing(),
        on_saved=job.saved.append,
        on_failed=lambda message: told.set(),
    )
    job.assign(10)
    checkpoints.save(10, job.variables, {})
    # The training goes on to change them; what is saved in the end is what they were.
    job.assign(-1)

    def make_room() -> None:
        assert told.wait(TIMEOUT_S)
        job.paths.checkpoints.unlink()

    room = threading.Thread(target=make_room)
    room.start()
    checkpoints.finish(patience_s=TIMEOUT_S)
    room.join()
    assert job.loaded(job.generation(2).choose()) == 10
