"""Savers that are killed at any moment."""

from __future__ import annotations

import os
import random
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import tensorflow as tf

from tests.training import groups
from tests.unit.checkpoint_job import Job
from trainer import lifeline, snapshot
from trainer.checkpoints import Checkpoints
from trainer.contract import Checkpointing
from trainer.storage import JobPaths, committed

pytestmark = pytest.mark.training


def variables() -> dict[str, tf.Variable]:
    return {
        "step": tf.Variable(0, dtype=tf.int64),
        "weights": tf.Variable(tf.zeros([50_000])),
    }


def _save_for_ever(root: str, generation: int, teller: Connection) -> None:
    """Go on from the newest checkpoint, save each step, and tell of each commit."""
    lifeline.die_with(os.getppid())
    checkpoints = Checkpoints(
        JobPaths(Path(root), "default", "job", "uid"),
        generation=generation,
        policy=Checkpointing(keep_last=2),
        on_saved=lambda manifest: teller.send(("saved", manifest.step)),
        on_failed=lambda message: teller.send(("failed", message)),
    )
    state = variables()
    chosen = checkpoints.choose()
    step = chosen.step if chosen else 0
    checkpoints.fence(step)
    if chosen:
        checkpoints.load(chosen.step, chosen.generation, state)
    teller.send(("began", step))
    while True:
        step += 1
        for variable in state.values():
            variable.assign_add(tf.ones_like(variable))
        checkpoints.save(step, state, {})
        checkpoints.finish()


def test_no_kill_leaves_a_torn_checkpoint_or_loses_a_committed_one(tmp_path: Path) -> None:
    job, rng, newest = Job(tmp_path), random.Random(1), 0
    job.variables = variables()
    for generation in range(1, 13):
        told, teller = groups.context.Pipe(duplex=False)
        arguments = (str(job.paths.root), generation, teller)
        saver = groups.context.Process(target=_save_for_ever, args=arguments, daemon=True)
        saver.start()
        teller.close()
        word, began = told.recv()
        assert (word, began >= newest) == ("began", True)
        # Anywhere in the next save: beginning, in the middle, at the commit.
        lives, killer = rng.randint(1, 8), threading.Timer(rng.uniform(0, 0.02), saver.kill)
        with suppress(EOFError):
            while True:
                word, newest = told.recv()
                assert word == "saved", newest
                lives -= 1
                if lives == 0:
                    killer.start()
        killer.join()
        saver.join()
        chooser = job.generation(generation + 1)
        chosen = chooser.choose()
        assert chosen is not None
        assert chosen.step >= newest
        assert chooser.skipped == ()
        for manifest in committed(job.paths):
            assert snapshot.damage(job.paths.checkpoints / manifest.id, manifest) is None
        assert job.loaded(chosen) == chosen.step
