"""Reads a job's history in order and without gaps, from the store, from storage and live."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from controller import wire_store
from controller.cursors import WatchCursor
from controller.live import Live
from controller.model import Job, JobKey, LogEntry
from controller.ports import JobStore, Storage
from protos.taas.v1 import history_pb2

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

        Raises JobNotFound when the job is deleted meanwhile.
        """
        signal = self._live.job(cursor.uid).signal
        while True:
            # The version is read before the state, so that a change in between is not slept over.
            version = signal.version
            job = await self._store.get(key)
            if job.uid != cursor.uid:
                return
            told = False
            async for event, behind in self._pass(job, cursor):
                told, cursor = True, behind
                yield event
            if told:
                continue
            if job.status.phase.final and job.status.last_event <= cursor.entry:
                self._live.forget(job.uid)  # nothing is live about a final job
                return
            await signal.wait(version)

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
        self, job: Job, cursor: WatchCursor
    ) -> AsyncIterator[tuple[history_pb2.Event, WatchCursor]]:
        """Yield what is new, by time as far as both sources reach, with the cursor after each."""
        entries = list(await self._store.entries(job, cursor.entry))
        async for record, advanced in self._records(job, cursor):
            while entries and _time(entries[0]) <= _record_time(record):
                entry = entries.pop(0)
                advanced = replace(advanced, entry=entry.number)
                cursor = replace(cursor, entry=entry.number)
                yield wire_store.entry_to_event(entry, cursor.encode()), cursor
            cursor = replace(advanced, entry=cursor.entry)
            yield _record_event(record, cursor), cursor
        for entry in entries:
            cursor = replace(cursor, entry=entry.number)
            yield wire_store.entry_to_event(entry, cursor.encode()), cursor

    async def _records(
        self, job: Job, cursor: WatchCursor
    ) -> AsyncIterator[tuple[history_pb2.Record, WatchCursor]]:
        """Yield the records after the cursor, generation by generation.

        A generation's file is complete once a later generation exists, so moving on is safe
        exactly then; before that the live records may be ahead of what storage shows.
        """
        generation, position = cursor.generation, cursor.records
        while True:
            batch = self._live.records(job.uid, generation, position) or [
                _record(line, generation, position + i)
                for i, line in enumerate(
                    await self._storage.records(job, generation, position, _BATCH)
                )
            ]
            for record in batch:
                position += 1
                yield record, replace(cursor, generation=generation, records=position)
            if batch:
                continue
            if job.status.generation <= generation:
                return
            later = [g for g in await self._storage.generations(job) if g > generation]
            if not later:
                return
            generation, position = later[0], 0


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
