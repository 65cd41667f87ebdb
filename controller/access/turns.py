"""Nobody makes too many calls at once: what one caller does leaves room for the others.

A caller's short calls take turns, a few at a time, so that a flood of them waits in its own line,
and so do transfers of files; his streams are counted. Beyond that he is told the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from controller.access.places import Places
from controller.errors import LimitExceeded
from controller.limits import CallLimits

# Before a caller is told that he asks too much: who then asks again at once, hundreds of times
# over, would keep the controller busy with telling him so.
_PAUSE_S = 0.5


@dataclass(slots=True)
class _Line:
    """One caller's place; gone when he has nothing under way."""

    turn: asyncio.Semaphore
    transfer: asyncio.Semaphore
    calls: int = 0
    streams: int = 0


@dataclass(slots=True)
class Turns:
    """Who has how much under way."""

    limits: CallLimits
    places: Places = field(init=False)
    _lines: dict[str, _Line] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the places that all callers share."""
        self.places = Places(self.limits.receiving)

    @asynccontextmanager
    async def call(self, caller: str) -> AsyncIterator[None]:
        """Be one of a caller's short calls, once it is its turn. Raises LimitExceeded."""
        line, most = self._line(caller), self.limits.calls + self.limits.waiting
        if line.calls >= most:
            text = f"{caller} has {line.calls} calls under way, the most are {most}; wait"
            await _refuse("calls", text)
        line.calls += 1
        try:
            async with line.turn:
                yield
        finally:
            line.calls -= 1
            self._leave(caller, line)

    @asynccontextmanager
    async def stream(self, caller: str, *, most: int = 0) -> AsyncIterator[None]:
        """Be one of a caller's streams. Raises LimitExceeded beyond `most`, by default that of
        the limits."""
        line, most = self._line(caller), most or self.limits.streams
        if line.streams >= most:
            text = f"{caller} has {line.streams} streams open, the most are {most}; close some"
            await _refuse("streams", text)
        line.streams += 1
        try:
            yield
        finally:
            line.streams -= 1
            self._leave(caller, line)

    @asynccontextmanager
    async def transfer(self, caller: str) -> AsyncIterator[None]:
        """Be one of a caller's streams over which a file goes, once it is its turn. Raises
        LimitExceeded."""
        async with self.stream(caller), self._line(caller).transfer:
            yield

    def _line(self, caller: str) -> _Line:
        line = self._lines.get(caller)
        if line is None:
            turn = asyncio.Semaphore(self.limits.calls)
            line = _Line(turn, asyncio.Semaphore(self.limits.transfers))
            self._lines[caller] = line
        return line

    def _leave(self, caller: str, line: _Line) -> None:
        if not line.calls and not line.streams:
            del self._lines[caller]


async def _refuse(what: str, text: str) -> NoReturn:
    await asyncio.sleep(_PAUSE_S)
    raise LimitExceeded(what, text)
