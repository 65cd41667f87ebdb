"""What agents send at this moment: short memories of records and log bytes, and wake-up calls.

Readers pull: each keeps its own position, takes what it lacks from here or from storage, and
sleeps on the job's signal. So a slow reader costs nothing, and no queue can grow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from protos.taas.v1 import history_pb2

# Enough to bridge a watcher's storage read; older records are read from storage.
_RECORDS_KEPT = 512
_LOG_BYTES_KEPT = 256 * 1024


class Signal:
    """Wakes all who wait for the next change. A change between two waits is not missed."""

    def __init__(self) -> None:
        self.version = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        """Wake everybody."""
        self.version += 1
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seen: int) -> int:
        """Return the present version once it differs from the one that was seen."""
        while self.version == seen:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return self.version


class LogTail:
    """The newest bytes of one worker's log."""

    def __init__(self) -> None:
        self._start = 0
        self._data = bytearray()

    def append(self, offset: int, data: bytes) -> None:
        """Take a chunk; one that does not continue what is here replaces it."""
        if offset != self._start + len(self._data):
            self._start = offset
            self._data.clear()
        self._data += data
        surplus = len(self._data) - _LOG_BYTES_KEPT
        if surplus > 0:
            del self._data[:surplus]
            self._start += surplus

    def read(self, offset: int, limit: int) -> bytes:
        """Return bytes from that offset on, or b"" if they are not here."""
        begin = offset - self._start
        if begin < 0:
            return b""
        return bytes(self._data[begin : begin + limit])


class LiveJob:
    """One job's memories."""

    def __init__(self) -> None:
        self.signal = Signal()
        self.logs: dict[int, LogTail] = {}
        self.log_followers: dict[int, int] = {}
        self._records: deque[history_pb2.Record] = deque(maxlen=_RECORDS_KEPT)

    def add_record(self, record: history_pb2.Record) -> None:
        """Take a record from the chief's agent and wake the watchers."""
        newest = self._records[-1] if self._records else None
        if newest is not None and (newest.generation, newest.index) >= (
            record.generation,
            record.index,
        ):
            return
        if newest is not None and (
            newest.generation != record.generation or newest.index + 1 != record.index
        ):
            # A gap: what is before it must come from storage, in order.
            self._records.clear()
        self._records.append(record)
        self.signal.set()

    def records(self, generation: int, start: int) -> Sequence[history_pb2.Record]:
        """Return the records of a generation from that index on, or nothing if that one is
        not here."""
        if not self._records:
            return ()
        first = self._records[0]
        skip = start - first.index
        if first.generation != generation or not 0 <= skip < len(self._records):
            return ()
        return [self._records[i] for i in range(skip, len(self._records))]

    def add_log(self, worker: int, offset: int, data: bytes) -> None:
        """Take log bytes from an agent and wake the readers."""
        self.logs.setdefault(worker, LogTail()).append(offset, data)
        self.signal.set()


class Live:
    """The memories of all jobs that someone watches or works on, by uid."""

    def __init__(self) -> None:
        self._jobs: dict[str, LiveJob] = {}

    def job(self, uid: str) -> LiveJob:
        """Return the memories of a job, made when first asked for."""
        return self._jobs.setdefault(uid, LiveJob())

    def records(self, uid: str, generation: int, start: int) -> Sequence[history_pb2.Record]:
        """Return what LiveJob.records would, making no memories for a job that has none."""
        job = self._jobs.get(uid)
        return job.records(generation, start) if job is not None else ()

    def wake(self, uid: str) -> None:
        """Wake the readers of a job: its status, its agents or its files changed."""
        job = self._jobs.get(uid)
        if job is not None:
            job.signal.set()

    def forget(self, uid: str) -> None:
        """Drop a job's memories after waking its readers one last time."""
        job = self._jobs.pop(uid, None)
        if job is not None:
            job.signal.set()
