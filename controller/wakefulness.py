"""Since when the controller has been awake, without a break in which it heard nobody.

A machine sleeps, a process is stopped, a clock is set: afterwards everybody seems to have been
silent for as long as the clock has moved, while what they said waits to be read. So time before
such a break says nothing of anybody's silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

_log = logging.getLogger(__name__)

# Between two looks at the clocks. Half of what makes silence a loss: a break that is too short to
# be noticed, and the second between two heartbeats, leave room for another one. A busy controller
# is late by tenths of a second.
LONGEST_NAP = timedelta(seconds=3)
_LOOKS_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Wakefulness:
    """A look at the clocks: that on the wall, and the steady one, which nobody sets, but which
    may stand still while the machine sleeps. since: when the last break was over."""

    since: datetime
    now: datetime
    steady_s: float

    @classmethod
    def begun(cls, now: datetime, steady_s: float) -> Wakefulness:
        """Return the first look."""
        return cls(now, now, steady_s)

    def looked(self, now: datetime, steady_s: float) -> Wakefulness:
        """Return the next look. Pure."""
        moved = now - self.now
        passed = timedelta(seconds=steady_s - self.steady_s)
        awake = timedelta(0) <= moved <= LONGEST_NAP and passed <= LONGEST_NAP
        return Wakefulness(self.since if awake else now, now, steady_s)


class Wake:
    """Keeps the last look at the clocks. Who decides by the time looks himself, so that no
    decision after a break comes before the break is noticed."""

    def __init__(self, clock: Callable[[], datetime], steady: Callable[[], float]) -> None:
        self._clock = clock
        self._steady = steady
        self._last = Wakefulness.begun(clock(), steady())

    def look(self) -> Wakefulness:
        """Look at the clocks."""
        before = self._last
        last = self._last = before.looked(self._clock(), self._steady())
        if last.since != before.since:
            _log.warning(
                "the clock moved by %.1f s in %.1f s without a look at it: the machine slept, this "
                "process was stopped, or the clock was set; silence counts from now on",
                (last.now - before.now).total_seconds(),
                last.steady_s - before.steady_s,
            )
        return last

    async def keep(self, every_s: float = _LOOKS_EVERY_S) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(every_s)
