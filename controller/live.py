"""What agents send at this moment: short memories of records and log bytes, and wake-up calls.

Readers pull: each keeps its own position, takes what it lacks from here or from storage, and
sleeps on the job's signal. So a slow reader costs nothing, and no queue can grow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from weakref import WeakValueDictionary

from protos.taas.v1 import history_pb2

# Enough to bridge a watcher's storage read; older records are read from storage.
_RECORDS_KEPT = 512
# Bytes of one that is kept at all, and of all that are: a worker may say what it likes.
_MOST_RECORD_BYTES = 64 * 1024
_MOST_RECORDS_BYTES = 1024 * 1024
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

    @property
    def end(self) -> int:
        """The offset behind the newest byte."""
        return self._start + len(self._data)

    def append(self, offset: int, data: bytes) -> None:
        """Take a chunk; one that does not continue what is here replaces it."""
        if offset != self.end:
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
        self.log_followers: dict[int, int] = {}
        self._logs: dict[int, LogTail] = {}
        self._records: deque[history_pb2.Record] = deque()
        self._records_bytes = 0

    def add_record(self, record: history_pb2.Record) -> None:
        """Take a record from the chief's agent and wake the watchers."""
        newest, told = self.newest, (record.generation, record.index)
        if newest is not None and newest >= told:
            return
        if newest is not None and (newest[0], newest[1] + 1) != told:
            # A gap: what is before it must come from storage, in order.
            self._clear()
        size = record.ByteSize()
        if size <= _MOST_RECORD_BYTES:
            self._records.append(record)
            self._records_bytes += size
        else:
            # Watchers are woken, and find it in storage.
            self._clear()
        while len(self._records) > _RECORDS_KEPT or self._records_bytes > _MOST_RECORDS_BYTES:
            self._records_bytes -= self._records.popleft().ByteSize()
        self.signal.set()

    def forget_records(self) -> None:
        """Leave all records to storage and wake the watchers: an agent that calls may have
        written some that it could not tell."""
        self._clear()
        self.signal.set()

    @property
    def newest(self) -> tuple[int, int] | None:
        """Generation and index of the newest record, None before the first."""
        newest = self._records[-1] if self._records else None
        return (newest.generation, newest.index) if newest is not None else None

    def _clear(self) -> None:
        self._records.clear()
        self._records_bytes = 0

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
        self._logs.setdefault(worker, LogTail()).append(offset, data)
        self.signal.set()

    def log(self, worker: int, offset: int, limit: int) -> bytes:
        """Return bytes of a worker's log from that offset on, or b"" if they are not here."""
        tail = self._logs.get(worker)
        return tail.read(offset, limit) if tail is not None else b""

    def log_end(self, worker: int) -> int:
        """Return how far a worker's log was told, -1 if nothing was."""
        tail = self._logs.get(worker)
        return tail.end if tail is not None else -1


class Live:
    """The memories of all jobs, by uid. They last for as long as somebody holds them: the agents
    of the job that are connected, and those who watch it or read its logs."""

    def __init__(self) -> None:
        self._jobs: WeakValueDictionary[str, LiveJob] = WeakValueDictionary()

    def job(self, uid: str) -> LiveJob:
        """Return the memories of a job, to be held while they are needed."""
        job = self._jobs.get(uid)
        if job is None:
            job = self._jobs[uid] = LiveJob()
        return job

    def wake(self, uid: str) -> None:
        """Wake the readers of a job: its status, its agents or its files changed."""
        job = self._jobs.get(uid)
        if job is not None:
            job.signal.set()
