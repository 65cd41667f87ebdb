"""Answers that are kept for a short while, so that a check costs a call of the cluster only now
and then: bounded, and asked for once however many wait for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from controller.errors import ClusterUnavailable

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Memory(Generic[_K, _V]):
    """Remembers what `ask` answered. An answer is kept `keep_s(answer)` seconds; an error is told
    to all who wait for it and not kept.

    At most `most` answers are kept, the oldest go first; at most `at_once` questions are under
    way, and `waiting` more wait: who comes then gets ClusterUnavailable.
    """

    def __init__(
        self,
        ask: Callable[[_K], Awaitable[_V]],
        keep_s: Callable[[_V], float],
        *,
        most: int,
        at_once: int,
        waiting: int,
    ) -> None:
        self._ask = ask
        self._keep_s = keep_s
        self._most = most
        self._at_once = asyncio.Semaphore(at_once)
        self._most_asked = at_once + waiting
        self._known: OrderedDict[_K, tuple[float, _V]] = OrderedDict()  # with the end of its time
        self._asked: dict[_K, asyncio.Task[_V]] = {}

    async def get(self, key: _K) -> _V:
        """Return the answer, from memory if it is still good."""
        known = self._known.get(key)
        if known is not None:
            if known[0] > asyncio.get_running_loop().time():
                return known[1]
            del self._known[key]
        asked = self._asked.get(key)
        if asked is None:
            if len(self._asked) >= self._most_asked:
                raise ClusterUnavailable("too many callers are being checked; try again soon")
            asked = self._asked[key] = asyncio.create_task(self._answer(key))
            asked.add_done_callback(lambda task: self._told(key, task))
        # One who gives up does not take the answer from the others.
        return await asyncio.shield(asked)

    async def _answer(self, key: _K) -> _V:
        async with self._at_once:
            value = await self._ask(key)
        self._known[key] = (asyncio.get_running_loop().time() + self._keep_s(value), value)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return value

    def _told(self, key: _K, task: asyncio.Task[_V]) -> None:
        del self._asked[key]
        if not task.cancelled():
            # Read, or an error that nobody waits for any more would be complained of.
            task.exception()
