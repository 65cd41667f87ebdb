"""The worker's log for the event loop: the blocking LogFile, one call at a time, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from trainer.logfile import LogFile


class WorkerLog:
    """Appends to and reads from a LogFile without blocking the event loop, and says when it grew.

    Shared storage may stall for seconds; heartbeats go on then, and whoever writes waits.
    """

    def __init__(self, file: LogFile, *, grew: Callable[[], None]) -> None:
        self._file = file
        self._grew = grew
        self._one_at_a_time = asyncio.Lock()

    async def begin(self, header: str) -> None:
        """Open the file anew and write a generation's first line."""
        async with self._one_at_a_time:
            await asyncio.to_thread(self._file.reopen)
        await self.write([header.encode()])

    async def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, given without their ends."""
        async with self._one_at_a_time:
            await asyncio.to_thread(self._file.write, lines)
        self._grew()

    async def read(self, offset: int, most: int) -> tuple[int, bytes]:
        """Return at most so many bytes and where they begin, see LogFile.read."""
        return await asyncio.to_thread(self._file.read, offset, most)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
