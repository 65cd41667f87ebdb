"""Finds out what an installed Keras does wrong, by asking its own functions with stand-ins.

Not by a list of versions: a later release may bring the mend, a fork may have it, and what counts
is only how the functions behave. Nothing here runs a TensorFlow operation, so that it is safe in a
process that will fork.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import tensorflow as tf


class _Reduced(Exception):
    """The stand-in was asked for a reduction."""

    def __init__(self, axis: int | None) -> None:
        super().__init__(axis)
        self.axis = axis


class _Strategy(tf.distribute.MultiWorkerMirroredStrategy):
    """A strategy of two workers that says what it is asked for, and nothing else."""

    def __init__(self) -> None:
        """Make no group: the parent's start would look for other workers."""

    @property
    def extended(self) -> Any:
        return SimpleNamespace(_in_multi_worker_mode=lambda: True)

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        raise _Reduced(axis)


class _PerReplica(tf.distribute.DistributedValues):
    def __init__(self) -> None:
        """Hold nothing."""


def reduces_scalars_along_an_axis(trainer: Any) -> bool:
    """Tell whether metrics, which are scalars, are averaged along their first axis."""
    try:
        trainer.reduce_per_replica(1.0, _Strategy(), reduction="mean")
    except _Reduced as asked:
        return asked.axis is not None
    return False


def reduces_the_first_batch(trainer: Any) -> bool:
    """Tell whether a model is built from the mean of the workers' batches, eagerly."""
    model = SimpleNamespace(
        _distribute_strategy=_Strategy(),
        distribute_strategy=_Strategy(),
    )
    try:
        trainer.TensorFlowTrainer._maybe_symbolic_build(
            model, iterator=[(0, 0, iter([_PerReplica()]))]
        )
    except _Reduced:
        return True
    except AttributeError:  # It has gone on to build the model, which the stand-in is not.
        return False
    return False
