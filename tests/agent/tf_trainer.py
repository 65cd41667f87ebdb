# ruff: noqa: T201 - a program of a user prints.
"""A trainer that is nothing but TensorFlow: a sum over the group, and what was seen on the way."""

from __future__ import annotations

import os
import time

from trainer.contract import Assignment, ExitCode


def main(assignment: Assignment) -> int:
    """Build the strategy and add up one number for each worker."""
    entered = time.time()
    import tensorflow as tf

    print(f"entered {entered:.3f}")
    print(f"imported {time.time():.3f}")
    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    @tf.function
    def add() -> object:
        ones = strategy.run(lambda: tf.ones([]))
        return strategy.reduce("SUM", ones, axis=None)

    print(f"sum {int(add().numpy())}")
    print(f"threads {tf.config.threading.get_intra_op_parallelism_threads()}")
    print(f"done {time.time():.3f} pid {os.getpid()}")
    return ExitCode.DONE
