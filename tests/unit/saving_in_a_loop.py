"""A process that forks children which save checkpoints in a loop, to be killed at any moment.

    python saving_in_a_loop.py ROOT

Imports TensorFlow once. For each line "GENERATION" on stdin it forks a child of that generation
and prints the child's process id; each child prints "saved STEP" after each commit it is told of.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import tensorflow as tf

from trainer.checkpoints import Checkpoints
from trainer.contract import Checkpointing
from trainer.storage import JobPaths

ELEMENTS = 50_000


def save_for_ever(root: Path, generation: int) -> None:
    checkpoints = Checkpoints(
        JobPaths(root, "default", "job", "uid"),
        generation=generation,
        policy=Checkpointing(keep_last=2),
        on_saved=lambda manifest: os.write(1, f"saved {manifest.step}\n".encode()) and None,
        on_failed=lambda message: os.write(1, f"failed {message}\n".encode()) and None,
    )
    variables = {
        "step": tf.Variable(0, dtype=tf.int64),
        "weights": tf.Variable(tf.zeros([ELEMENTS])),
    }
    chosen = checkpoints.choose()
    start = chosen.step if chosen else 0
    checkpoints.fence(start)
    if chosen:
        checkpoints.load(chosen.step, chosen.generation, variables)
    os.write(1, f"began {start}\n".encode())
    for step in range(start + 1, start + 10_000):
        for variable in variables.values():
            variable.assign_add(tf.ones_like(variable))
        checkpoints.save(step, variables, {})
        checkpoints.finish()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            save_for_ever(Path(sys.argv[1]), int(line))
        os.write(1, f"pid {child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"gone\n")


if __name__ == "__main__":
    main()
