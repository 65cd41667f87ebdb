"""Calls of a compiled function that makes many steps and one report to all members.

In a call every replica adds up its measures; at the end one all-reduce brings together the sums
of all replicas, the wish of any member to stop, the chief's word on how many steps the next call
makes, and how long the members waited for input. Every member thus decides the same after each
call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainer import allocator
from trainer.metrics import Vector
from trainer.together import members_of

# A signal, a checkpoint or a record waits for the end of a call; the overhead of one (about
# 2 ms) must not count.
TARGET_S = 0.25
MAX_STEPS = 4096


@dataclass(frozen=True, slots=True)
class Called:
    """What a call brought: one row of summed measures per block, and whether to stop.

    seconds: that it took. starved_s: those of them in which a member waited for input, on average
    over the members.
    """

    sums: Vector
    stop: bool
    seconds: float
    starved_s: float


class Calls:
    """Runs `step(batch, number)` on every replica, many times in a call."""

    def __init__(
        self,
        strategy: Any,
        iterator: Any,
        step: Callable[[Any, Any], Any],
        *,
        size: int,
        blocks: int,
        block_steps: int,
        is_chief: bool,
        finish: Callable[[], None] | None = None,
    ) -> None:
        """Prepare calls; `step` returns float64[size], added up apart for each block of steps.

        `finish` runs on every replica at the end of each call.
        """
        self._strategy, self._iterator, self._step = strategy, iterator, step
        self._size, self._blocks, self._block_steps = size, blocks, block_steps
        self._is_chief, self._finish = is_chief, finish
        with strategy.scope():
            self._sums = tf.Variable(
                tf.zeros([blocks, size], tf.float64),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
                name="sums",
            )
        # Nothing in here is for autograph, and without it a traceback shows the user's lines.
        self._function = tf.function(self._many, autograph=False)
        self._timed = False
        self._proposal = 1
        # Steps that all members agree the next call may make.
        self.steps = 1

    def __call__(self, first: int, count: int, *, stop: bool) -> Called:
        """Make steps `first` .. `first + count - 1`. All members must call alike."""
        began = time.monotonic()
        result = self._function(
            tf.constant(first, tf.int64),
            tf.constant(count, tf.int64),
            tf.constant([float(stop), float(self._proposal)], tf.float64),
        ).numpy()
        seconds = time.monotonic() - began
        if not self._timed:
            allocator.keep_blocks()
        self._propose(count, seconds)
        stop, proposal, starved_s = result[-3:]
        self.steps = max(1, min(MAX_STEPS, int(proposal)))
        sums = result[:-3].reshape(self._blocks, self._size)
        starved_s = float(starved_s) / self._strategy.num_replicas_in_sync
        return Called(sums, bool(stop > 0), seconds, starved_s)

    def _propose(self, count: int, seconds: float) -> None:
        # The first call compiles, so its time says nothing.
        if self._timed:
            fitting = int(count * TARGET_S / max(seconds, 1e-6))
            self._proposal = max(1, min(fitting, self._proposal * 4, MAX_STEPS))
        self._timed = True

    def _many(self, first: Any, count: Any, control: Any) -> Any:
        run = self._strategy.run
        run(self._begin)
        first_block = first // self._block_steps

        def body(number: Any, starved_s: Any) -> Any:
            block = tf.cast(number // self._block_steps - first_block, tf.int32)
            batch, waited_s = self._next()
            run(self._one, args=(batch, number, block))
            return number + 1, starved_s + waited_s

        _, starved_s = tf.while_loop(
            lambda number, _: number < first + count, body, [first, tf.constant(0.0, tf.float64)]
        )
        with tf.control_dependencies([starved_s]):
            reduced = run(self._end, args=(control, starved_s))
        return self._strategy.experimental_local_results(reduced)[0]

    def _next(self) -> tuple[Any, Any]:
        """Return the next batch, and the seconds that it was waited for."""
        began = tf.timestamp()
        with tf.control_dependencies([began]):
            batch = next(self._iterator)
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
            return batch, tf.timestamp() - began

    def _begin(self) -> None:
        self._sums.assign(tf.zeros([self._blocks, self._size], tf.float64))

    def _one(self, batch: Any, number: Any, block: Any) -> None:
        part = self._step(batch, number)
        chosen = tf.one_hot(block, self._blocks, dtype=tf.float64)
        self._sums.assign_add(chosen[:, tf.newaxis] * part[tf.newaxis, :])

    def _end(self, control: Any, starved_s: Any) -> Any:
        if self._finish is not None:
            self._finish()
        context = tf.distribute.get_replica_context()
        # The first replica of all is the chief's.
        chief = tf.logical_and(self._is_chief, tf.equal(context.replica_id_in_sync_group, 0))
        own = tf.reshape(tf.convert_to_tensor(self._sums), [-1])
        mask = tf.stack([tf.constant(1.0, tf.float64), tf.cast(chief, tf.float64)])
        packed = tf.concat([own, control * mask, [starved_s]], axis=0)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, packed)


def elements(strategy: Any, make: Callable[[int, int], Any]) -> Any:
    """Return an iterator over what the replicas of this process get, for `Calls`.

    `make` returns a data set with the elements of so many replicas in turn, from the one of a
    number in the whole group on.
    """
    members = members_of(strategy)
    local = strategy.num_replicas_in_sync // members
    first = (strategy.cluster_resolver.task_id if members > 1 else 0) * local
    if local == 1 and "CPU" in strategy.extended.worker_devices[0]:
        # A single replica on the processor needs nothing that carries elements to devices.
        with tf.device("CPU:0"):
            return iter(make(first, local))
    return iter(strategy.distribute_datasets_from_function(lambda _: make(first, local)))
