"""A job's storage, its variables and what its trainings report, for tests of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from trainer.checkpoints import Checkpoints, Chosen
from trainer.contract import Checkpointing
from trainer.storage import JobPaths, Manifest, checkpoint_id, committed

TIMEOUT_S = 120


class Job:
    """A job's storage, what its trainings were told, and two variables that hold the step."""

    def __init__(self, root: Path) -> None:
        self.paths = JobPaths(root, "default", "job", "uid")
        self.saved: list[Manifest] = []
        self.failed: list[str] = []
        self.variables: dict[str, tf.Variable] = {
            "step": tf.Variable(0, dtype=tf.int64),
            "layer/weights": tf.Variable(tf.zeros([3, 4])),
        }

    def generation(self, number: int, **policy: object) -> Checkpoints:
        return Checkpoints(
            self.paths,
            generation=number,
            policy=Checkpointing(**policy),
            on_saved=self.saved.append,
            on_failed=self.failed.append,
        )

    def assign(self, step: int) -> None:
        for variable in self.variables.values():
            variable.assign(tf.cast(tf.fill(variable.shape, step), variable.dtype))

    def save(
        self, checkpoints: Checkpoints, *steps: int, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Save each of the steps, one after the other."""
        for step in steps:
            self.assign(step)
            checkpoints.save(step, self.variables, metrics or {})
            checkpoints.finish()

    def folder(self, step: int, generation: int = 1) -> Path:
        return self.paths.checkpoints / checkpoint_id(step, generation)

    def steps(self) -> list[int]:
        return [manifest.step for manifest in committed(self.paths)]

    def loaded(self, chosen: Chosen | None) -> float:
        """Load a checkpoint and return the step that all its values agree on."""
        assert chosen is not None
        self.assign(-1)
        self.generation(99).load(chosen.step, chosen.generation, self.variables)
        values = {float(tf.reduce_max(tf.abs(v))) for v in self.variables.values()}
        values |= {float(tf.reduce_min(v)) for v in self.variables.values()}
        (value,) = values
        return value
