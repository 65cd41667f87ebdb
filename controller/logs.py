"""Reads the workers' logs in whole lines, from storage and live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from controller.cursors import LogCursor
from controller.live import Live
from controller.model import Job, JobKey
from controller.ports import JobStore, Storage
from controller.workers import Workers

# Bytes handed out at once: one message, and the memory of one reader.
_CHUNK = 256 * 1024
# A line without an end is handed out once it is this long.
_LONGEST_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogText:
    """Whole lines of one worker, and the cursor behind them."""

    worker: int
    data: bytes
    cursor: LogCursor


class Logs:
    """Merges the log files of a job's workers into one stream."""

    def __init__(self, store: JobStore, storage: Storage, live: Live, workers: Workers) -> None:
        self._store = store
        self._storage = storage
        self._live = live
        self._workers = workers

    async def tail(self, job: Job, indexes: Sequence[int], lines: int) -> LogCursor:
        """Return the cursor before the last so many lines of each worker."""
        offsets = []
        for index in indexes:
            size = await self._storage.log_size(job, index)
            offsets.append((index, await self._line_start(job, index, size, lines)))
        return LogCursor(job.uid, tuple(offsets))

    async def read(
        self, key: JobKey, indexes: Sequence[int], cursor: LogCursor, *, follow: bool
    ) -> AsyncIterator[LogText]:
        """Yield the lines behind the cursor; with follow, until the job is final and told."""
        signal = self._live.job(cursor.uid).signal
        offsets = dict(cursor.offsets)
        if follow:
            for index in indexes:
                self._workers.follow_log(cursor.uid, index, offsets.get(index, 0))
        try:
            while True:
                version = signal.version
                job = await self._store.get(key)
                last = job.uid != cursor.uid or job.status.phase.final or not follow
                told = False
                for index in indexes:
                    async for data in self._lines(job, index, offsets.get(index, 0), last):
                        told = True
                        offsets[index] = offsets.get(index, 0) + len(data)
                        place = LogCursor(cursor.uid, tuple(sorted(offsets.items())))
                        yield LogText(index, data, place)
                if last and not told:
                    return
                if not told:
                    await signal.wait(version)
        finally:
            if follow:
                for index in indexes:
                    self._workers.unfollow_log(cursor.uid, index)

    async def _lines(self, job: Job, index: int, offset: int, last: bool) -> AsyncIterator[bytes]:
        """Yield what is there from the offset on, cut at line ends; with last, all of it."""
        while data := await self._bytes(job, index, offset):
            end = data.rfind(b"\n") + 1
            if end == 0 and (last or len(data) >= _LONGEST_LINE):
                end = len(data)
            if end == 0:
                return
            yield data[:end]
            offset += end

    async def _bytes(self, job: Job, index: int, offset: int) -> bytes:
        tail = self._live.job(job.uid).logs.get(index)
        live = tail.read(offset, _CHUNK) if tail is not None else b""
        return live or await self._storage.read_log(job, index, offset, _CHUNK)

    async def _line_start(self, job: Job, index: int, size: int, lines: int) -> int:
        """Return where the last so many lines begin, looking back chunk by chunk."""
        end, missing = size, lines + 1
        while end > 0:
            begin = max(0, end - _CHUNK)
            data = (await self._storage.read_log(job, index, begin, end - begin))[: end - begin]
            if end == size and not data.endswith(b"\n"):
                missing -= 1  # the last line has no end yet
            position = len(data)
            while missing > 0 and (position := data.rfind(b"\n", 0, position)) >= 0:
                missing -= 1
            if missing <= 0 and position >= 0:
                return begin + position + 1
            end = begin
        return 0
