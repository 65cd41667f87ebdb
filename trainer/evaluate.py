"""Exact metrics over a held-out set, computed by all workers together.

Every example counts once: the set is cut into equal shares, and what fills up the last ones has
weight 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from trainer import steady
from trainer.calls import Calls, elements
from trainer.data import Examples
from trainer.learner import Learner

# Examples a replica looks at in one step, at most; a larger step gains nothing but memory.
_SHARE = 256


class Evaluator:
    """Looks at one set of examples, as often as asked."""

    def __init__(self, learner: Learner, examples: Examples, *, is_chief: bool) -> None:
        """Prepare the pipeline; it waits at the start of the set between evaluations."""
        self._learner = learner
        self.size = examples.size
        replicas = learner.strategy.num_replicas_in_sync
        share = max(1, min(_SHARE, -(-examples.size // replicas)))
        self._steps = -(-examples.size // (share * replicas))
        shares = partial(
            _shares, examples=examples, share=share, steps=self._steps, replicas=replicas
        )
        self._calls = Calls(
            learner.strategy,
            elements(learner.strategy, shares),
            lambda batch, _: learner.evaluation_step(batch),
            size=learner.measures.size,
            blocks=1,
            block_steps=self._steps,
            is_chief=is_chief,
        )

    def run(self, stop: Callable[[], bool]) -> dict[str, float] | None:
        """Return loss and metrics of the variables as they are, or None to stop instead.

        All members must call together, and all get the same.
        """
        total = np.zeros(self._learner.measures.size)
        done = 0
        while done < self._steps:
            count = min(self._calls.steps, self._steps - done)
            called = self._calls(done, count, stop=stop())
            total += called.sums[0]
            done += count
            if called.stop:
                return None
        return self._learner.measures.results(total)


def _shares(
    first: int, local: int, *, examples: Examples, share: int, steps: int, replicas: int
) -> Any:
    """Return ((features, labels), weights, rows) of `local` replicas in turn, over and over."""

    def element(count: Any) -> Any:
        step, replica = count // local % steps, first + count % local
        rows = replica * share + tf.range(share, dtype=tf.int64)
        positions = step * share * replicas + rows
        real = positions < examples.size
        indices = tf.where(real, positions, tf.zeros_like(positions))
        return examples.fetch(indices), tf.cast(real, tf.float32), rows

    options = steady.options()
    options.deterministic = True
    options.threading.max_intra_op_parallelism = 1
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # Two elements ahead: between evaluations the pipeline should hold little.
    shares = tf.data.Dataset.counter().map(
        examples.for_map(element), num_parallel_calls=2, deterministic=True
    )
    return shares.prefetch(2).with_options(options)
