"""Reads the workers' logs in whole lines, from storage and live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from controller.cursors import LogCursor
from controller.errors import REPLACED, JobNotFound
from controller.live import Live, LiveJob
from controller.model import Job, JobKey
from controller.ports import JobStore, Storage
from controller.workers import Workers

# What says whether there may be more of a worker's log than at the last look: the job's newest
# generation, whether it has ended, and how far the agent has told of the log.
_Standing = tuple[int, bool, int]

# Bytes handed out at once: one message, and the memory of one reader.
_CHUNK = 64 * 1024
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
        """Yield the lines behind the cursor; with follow, until the job is final and told.

        Raises JobNotFound when the job is deleted meanwhile, also if another one has its name.
        """
        live = self._live.job(cursor.uid)
        offsets = dict(cursor.offsets)
        exhausted: dict[int, _Standing] = {}  # where each log stood when there was no more
        if follow:
            for index in indexes:
                self._workers.follow_log(cursor.uid, index, offsets.get(index, 0))
        try:
            while True:
                version = live.signal.version
                job = await self._store.get(key)
                if job.uid != cursor.uid:
                    raise JobNotFound(str(key), REPLACED)
                last = job.status.phase.final or not follow
                told = False
                for index in indexes:
                    standing = _standing(job, live, index)
                    if standing == exhausted.get(index) and not last:
                        continue
                    offset = offsets.get(index, 0)
                    async for data, behind in self._lines(job, live, index, offset, last):
                        told = True
                        offsets[index] = behind
                        place = LogCursor(cursor.uid, tuple(sorted(offsets.items())))
                        yield LogText(index, data, place)
                    exhausted[index] = standing
                if last and not told:
                    return
                if not told:
                    await live.signal.wait(version)
        finally:
            if follow:
                for index in indexes:
                    self._workers.unfollow_log(cursor.uid, index)

    async def _lines(
        self, job: Job, live: LiveJob, index: int, offset: int, last: bool
    ) -> AsyncIterator[tuple[bytes, int]]:
        """Yield what is there from the offset on and the offset behind it, cut at line ends; with
        last, all of it."""
        while True:
            begin, data = offset, live.log(index, offset, _CHUNK)
            if not data and (last or live.log_end(index) != offset):
                begin, data = await self._storage.read_log(job, index, offset, _CHUNK)
            end = data.rfind(b"\n") + 1
            if end == 0 and (last or len(data) >= _LONGEST_LINE):
                end = len(data)
            if end == 0:
                return
            left_out = (
                b"--- %d bytes are left out ---\n" % (begin - offset) if begin > offset else b""
            )
            offset = begin + end
            yield left_out + data[:end], offset

    async def _newest_between(
        self, job: Job, index: int, wanted: int, end: int
    ) -> tuple[int, bytes]:
        """Return the last bytes between two offsets of which none is left out, and where they
        begin."""
        begin, data = wanted, b""
        while (behind := begin + len(data)) < end:
            there, more = await self._storage.read_log(job, index, behind, end - behind)
            more = more[: max(0, end - there)]
            if not more:
                break
            begin, data = (begin, data + more) if there == behind else (there, more)
        return begin, data

    async def _line_start(self, job: Job, index: int, size: int, lines: int) -> int:
        """Return where the last so many lines begin, looking back chunk by chunk as far as all
        is kept."""
        end, missing = size, lines + 1
        while end > 0:
            wanted = max(0, end - _CHUNK)
            begin, data = await self._newest_between(job, index, wanted, end)
            if end == size and not data.endswith(b"\n"):
                missing -= 1  # the last line has no end yet
            position = len(data)
            while missing > 0 and (position := data.rfind(b"\n", 0, position)) >= 0:
                missing -= 1
            if missing <= 0 and position >= 0:
                return begin + position + 1
            if begin > wanted:
                return min(begin, end)
            end = begin
        return 0


def _standing(job: Job, live: LiveJob, index: int) -> _Standing:
    return job.status.generation, job.status.generation_ended, live.log_end(index)
