"""The wish of any member to stop, agreed on by all at one step, in a loop that is not ours.

An all-reduce after every step would cost more than some steps do. So it is made every so many
steps, and how many is what the chief proposed in the one before.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# A signal waits this long at most; a reduction takes one or two milliseconds.
_TARGET_S = 0.5
_MOST_STEPS = 1000


class Agreement:
    """Whether the group is to stop. All members must call alike, between collectives."""

    def __init__(self, strategy: Any, *, members: int, is_chief: bool) -> None:
        """Prepare; with one member nothing has to be agreed on."""
        self._strategy, self._members, self._is_chief = strategy, members, is_chief
        self._function = tf.function(self._together, autograph=False)
        self._next = 0
        self._proposal = 1

    def begin(self, step: int) -> None:
        """Begin to count at this step."""
        self._next = step + 1

    def reached(self, step: int, *, wish: bool, step_s: float, now: bool = False) -> bool:
        """Say whether all stop after `step`; asked at every step, and answered when it is due.

        `step_s` is how long one takes here. `now` makes it due, on every member alike.
        """
        if self._members == 1:
            return wish
        if step < self._next and not now:
            return False
        self._proposal = max(1, min(_MOST_STEPS, self._proposal * 4, int(_TARGET_S / step_s)))
        own = tf.constant([float(wish), float(self._proposal if self._is_chief else 0)])
        stops, proposal = self._function(own).numpy()
        local = max(1, self._strategy.num_replicas_in_sync // self._members)
        self._next = step + max(1, round(float(proposal) / local))
        return bool(stops > 0)

    def _together(self, own: Any) -> Any:
        def replica(value: Any) -> Any:
            context = tf.distribute.get_replica_context()
            # Made here, it has a device, which the strategy needs to know.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

        reduced = self._strategy.run(replica, args=(own,))
        return self._strategy.experimental_local_results(reduced)[0]
