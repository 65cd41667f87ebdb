"""Reads a job's history in order and without gaps, from the store, from storage and live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from controller import wire_store
from controller.cursors import WatchCursor
from controller.errors import REPLACED, JobNotFound
from controller.live import Live, LiveJob
from controller.model import Job, JobKey, LogEntry
from controller.ports import JobStore, Storage
from protos.taas.v1 import history_pb2

# What of a job says whether storage may have more than at the last look: its newest generation,
# whether that may be running, and generation and index of the newest record that it told of.
_Standing = tuple[int, bool, tuple[int, int] | None]

# Records read from storage at once: bounds the memory of one watcher to about a megabyte.
_BATCH = 1000


class History:
    """Merges the event log and the record files of a job into one stream."""

    def __init__(self, store: JobStore, storage: Storage, live: Live) -> None:
        self._store = store
        self._storage = storage
        self._live = live

    async def watch(self, key: JobKey, cursor: WatchCursor) -> AsyncIterator[history_pb2.Event]:
        """Yield all events after the cursor, then what happens, until the job is final and told.

        Raises JobNotFound when the job is deleted meanwhile, also if another one has its name.
        """
        live = self._live.job(cursor.uid)
        exhausted: _Standing | None = None  # where the job stood when storage had no more
        while True:
            # The version is read before the state, so that a change in between is not slept over.
            version = live.signal.version
            job = await self._store.get(key)
            if job.uid != cursor.uid:
                raise JobNotFound(str(key), REPLACED)
            standing = _standing(job, live)
            look = standing != exhausted
            async for event, behind in self._pass(job, live, cursor, look=look):
                cursor = behind
                yield event
            exhausted = standing
            if job.status.phase.final and job.status.last_event <= cursor.entry:
                return
            await live.signal.wait(version)

    async def end(self, job: Job) -> WatchCursor:
        """Return the cursor behind everything that has happened so far."""
        cursor = WatchCursor(job.uid, entry=job.status.last_event)
        generations = await self._storage.generations(job)
        if not generations:
            return cursor
        generation, count = generations[-1], 0
        while lines := await self._storage.records(job, generation, count, _BATCH):
            count += len(lines)
        return replace(cursor, generation=generation, records=count)

    async def _pass(
        self, job: Job, live: LiveJob, cursor: WatchCursor, *, look: bool
    ) -> AsyncIterator[tuple[history_pb2.Event, WatchCursor]]:
        """Yield what is new, by time as far as both sources reach, with the cursor after each.
        Unless told to look into storage, it is known to have no more."""
        entries: list[LogEntry] = []
        if job.status.last_event > cursor.entry:
            entries += await self._store.entries(job, cursor.entry)
        async for record, advanced in self._records(job, live, cursor, look=look):
            while entries and _time(entries[0]) <= _record_time(record):
                entry = entries.pop(0)
                cursor = replace(cursor, entry=entry.number)
                yield wire_store.entry_to_event(entry, cursor.encode()), cursor
            same = advanced.entry == cursor.entry
            cursor = advanced if same else replace(advanced, entry=cursor.entry)
            yield _record_event(record, cursor), cursor
        for entry in entries:
            cursor = replace(cursor, entry=entry.number)
            yield wire_store.entry_to_event(entry, cursor.encode()), cursor

    async def _records(
        self, job: Job, live: LiveJob, cursor: WatchCursor, *, look: bool
    ) -> AsyncIterator[tuple[history_pb2.Record, WatchCursor]]:
        """Yield the records after the cursor, generation by generation.

        A generation's file is complete once a later generation exists, so moving on is safe
        exactly then; before that the live records may be ahead of what storage shows.
        """
        generation, position = cursor.generation, cursor.records
        while True:
            batch = live.records(generation, position)
            if not batch and look and not _is_newest(job, live, generation, position):
                batch = await self._stored(job, generation, position)
            for record in batch:
                position += 1
                yield record, replace(cursor, generation=generation, records=position)
            if batch:
                continue
            if not look or job.status.generation <= generation:
                return
            later = [g for g in await self._storage.generations(job) if g > generation]
            if not later:
                return
            generation, position = later[0], 0

    async def _stored(
        self, job: Job, generation: int, position: int
    ) -> Sequence[history_pb2.Record]:
        lines = await self._storage.records(job, generation, position, _BATCH)
        return [_record(line, generation, position + i) for i, line in enumerate(lines)]


def _standing(job: Job, live: LiveJob) -> _Standing:
    status = job.status
    running = not (status.generation_ended or status.phase.final)
    return status.generation, running, live.newest


def _is_newest(job: Job, live: LiveJob, generation: int, position: int) -> bool:
    """Say whether there can be no record there yet: none comes before the first generation, and
    the one that runs has just told of the record before, and will tell of the next."""
    newest = (generation, position - 1)
    return generation == 0 or _standing(job, live) == (generation, True, newest)


def _record(line: str, generation: int, index: int) -> history_pb2.Record:
    """Parse a stored line. The file lies where the user's program can write, so its place in the
    file, not its content, says which record it is, and rubbish is shown as such."""
    try:
        record = wire_store.record_from_json(line)
    except ValueError:
        record = history_pb2.Record(
            notice=history_pb2.Notice(
                reason="UnreadableRecord", message=f"not a record: {line[:200]!r}"
            )
        )
    record.generation, record.index = generation, index
    return record


def _record_event(record: history_pb2.Record, cursor: WatchCursor) -> history_pb2.Event:
    return history_pb2.Event(cursor=cursor.encode(), time=record.time, record=record)


def _time(entry: LogEntry) -> float:
    return entry.time.timestamp()


def _record_time(record: history_pb2.Record) -> float:
    return record.time.seconds + record.time.nanos / 1e9
