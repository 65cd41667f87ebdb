"""Places where requests are received: so many at a time, of all callers together.

What has come of a request takes memory until all of it is there, and who sends it decides when that
is. The next place goes to whoever has fewest, and while somebody waits nobody takes his time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

# How long a request may take to come while others wait for a place.
PRESSED_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    caller: str
    began: float
    bound: asyncio.Timeout


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    caller: str
    granted: asyncio.Future[None]


class Places:
    """Who receives, and who waits to."""

    def __init__(self, most: int, *, pressed_s: float = PRESSED_S) -> None:
        self._free = most
        self._pressed_s = pressed_s
        self._counts: Counter[str] = Counter()
        self._held: set[_Held] = set()
        self._waiting: list[_Waiting] = []

    @asynccontextmanager
    async def one(self, caller: str, within_s: float) -> AsyncIterator[None]:
        """Have a place, once there is one. Raises TimeoutError if what is done in it takes longer
        than `within_s`, or than PRESSED_S while others wait."""
        await self._granted(caller)
        loop = asyncio.get_running_loop()
        try:
            patience_s = min(within_s, self._pressed_s) if self._waiting else within_s
            async with asyncio.timeout(patience_s) as bound:
                held = _Held(caller, loop.time(), bound)
                self._held.add(held)
                try:
                    yield
                finally:
                    self._held.discard(held)
        finally:
            self._give_up(caller)

    async def _granted(self, caller: str) -> None:
        if self._free:
            self._take(caller)
            return
        waiting = _Waiting(caller, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._press()
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.cancelled():
                self._waiting.remove(waiting)
            else:
                self._give_up(caller)
            raise

    def _take(self, caller: str) -> None:
        self._free -= 1
        self._counts[caller] += 1

    def _give_up(self, caller: str) -> None:
        self._free += 1
        self._counts[caller] -= 1
        if not self._counts[caller]:
            del self._counts[caller]
        # Who has just gone away has not left the line yet.
        waiting = [one for one in self._waiting if not one.granted.done()]
        if waiting:
            following = min(waiting, key=lambda one: self._counts[one.caller])
            self._waiting.remove(following)
            self._take(following.caller)
            following.granted.set_result(None)

    def _press(self) -> None:
        """Let nobody who has a place be longer than those who wait can bear."""
        now = asyncio.get_running_loop().time()
        for held in self._held:
            until = max(now, held.began + self._pressed_s)
            if (end := held.bound.when()) is None or until < end:
                held.bound.reschedule(until)
