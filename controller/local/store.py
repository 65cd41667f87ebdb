"""Jobs in a SQLite file: the JobStore of the local backend.

The file has the truth; single jobs are read from a copy in memory, which every commit enters
before its writer is answered. Nobody else writes to the file: see StateLock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from controller import paging, wire_store
from controller.changes import Changes
from controller.errors import ClusterUnavailable, JobExists, JobNotFound
from controller.local import rows
from controller.local.copies import Copies, Row
from controller.local.database import Database
from controller.model import Job, JobKey, LogEntry, Spec, Status
from controller.ports import ListFilter, Page


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SqliteStore:
    """The JobStore over one SQLite file; open while its `async with` block runs.

    `now` gives the time at which deletion is asked for.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._database = Database(path, rows.SCHEMA)
        self._now = now
        self._changes = Changes()
        self._copies = Copies(self._job)

    async def __aenter__(self) -> SqliteStore:
        await self._database.open()
        try:
            await self._load()
        except BaseException:
            await self._database.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._database.aclose()
        self._changes.close()

    async def create(self, job: Job) -> Job:
        """Store a new job and return it with its version. Raises JobExists."""
        stored = replace(job, version="1")

        def change(connection: sqlite3.Connection) -> Job:
            if rows.find(connection, job.key) is not None:
                raise JobExists(str(job.key))
            connection.execute(
                "INSERT INTO jobs (namespace, name, uid, version, phase, document)"
                " VALUES (?, ?, ?, 1, ?, ?)",
                (
                    job.key.namespace,
                    job.key.name,
                    job.uid,
                    job.status.phase.value,
                    wire_store.job_to_json(stored),
                ),
            )
            connection.executemany(
                "INSERT INTO labels VALUES (?, ?, ?)", [(job.uid, *label) for label in job.labels]
            )
            return stored

        return await self._write(change)

    async def get(self, key: JobKey) -> Job:
        """Return a job. Raises JobNotFound."""
        return self._copies.job(key)

    async def list(self, wanted: ListFilter, page_size: int, token: str) -> Page:
        """Return a page of jobs, newest first. Raises InvalidJob("pageToken") on a bad token."""
        before = paging.position(token, wanted)
        where, values = rows.conditions(wanted)
        if before is not None:
            where, values = [*where, "number < ?"], [*values, before]
        select = (
            f"SELECT number, namespace, name FROM jobs WHERE {' AND '.join(where) or 'TRUE'}"
            " ORDER BY number DESC LIMIT ?"
        )
        # One more than wanted tells whether there is another page.
        found = await self._database.read(
            lambda connection: connection.execute(select, (*values, page_size + 1)).fetchall()
        )
        shown = found[:page_size]
        more = len(found) > len(shown) and shown
        next_token = paging.token(shown[-1][0], wanted) if more else ""
        # What the query saw is in the copy by now, and of some jobs what came after it.
        jobs = (self._copies.find(JobKey(namespace, name)) for _, namespace, name in shown)
        return Page(tuple(job for job in jobs if job is not None), next_token)

    async def keys(self) -> tuple[JobKey, ...]:
        """Return the keys of all jobs."""
        found = await self._database.read(
            lambda connection: connection.execute("SELECT namespace, name FROM jobs").fetchall()
        )
        return tuple(JobKey(namespace, name) for namespace, name in found)

    async def put_spec(self, job: Job, spec: Spec) -> Job:
        """Replace the spec if the stored version is still job's. Raises Conflict, JobNotFound."""
        fresh = replace(self._copies.job(job.key), spec=spec)

        def change(connection: sqlite3.Connection) -> Job:
            rows.check_same(connection, job)
            return rows.replaced(connection, fresh)

        return await self._write(change)

    async def put_status(self, job: Job, status: Status, entries: Sequence[LogEntry]) -> Job:
        """Replace the status and append to the event log in one transaction, if the stored
        version is still job's. Raises Conflict, JobNotFound; ValueError if the entries do not
        follow the log's last number."""
        fresh = replace(self._copies.job(job.key), status=status)

        def change(connection: sqlite3.Connection) -> Job:
            rows.check_same(connection, job)
            stored = rows.replaced(connection, fresh)
            rows.append(connection, job.uid, entries)
            return stored

        return await self._write(change)

    async def mark_deleting(self, key: JobKey) -> Job:
        """Record that deletion was asked for; a second call changes nothing. Raises JobNotFound."""

        def change(connection: sqlite3.Connection) -> Job:
            row = rows.find(connection, key)
            if row is None:
                raise JobNotFound(str(key))
            job = self._job(row)
            if job.deleting is not None:
                return job
            return rows.replaced(connection, replace(job, deleting=self._now()))

        return await self._write(change)

    async def remove(self, job: Job) -> None:
        """Forget a job and its event log. Nothing happens if it is gone."""

        def change(connection: sqlite3.Connection) -> None:
            for table in ("jobs", "labels", "entries"):
                connection.execute(f"DELETE FROM {table} WHERE uid = ?", (job.uid,))

        def committed(_: None) -> None:
            self._copies.drop(job)
            self._changes.tell(job.key)

        await self._database.write(change, committed)

    async def entries(self, job: Job, after: int) -> tuple[LogEntry, ...]:
        """Return the event log after that number, oldest first."""
        found = await self._database.read(
            lambda connection: connection.execute(
                "SELECT document FROM entries WHERE uid = ? AND number > ? ORDER BY number",
                (job.uid, after),
            ).fetchall()
        )
        try:
            return tuple(wire_store.entry_from_json(document) for (document,) in found)
        except ValueError as error:
            raise self._unreadable(f"event log of {job.key}", error) from error

    async def unfinished(self, namespace: str) -> tuple[Job, ...]:
        """Return the jobs of a namespace that are not final, in no order."""
        return self._copies.unfinished(namespace)

    def changes(self) -> AsyncIterator[JobKey]:
        """Yield the key of every job that is written from now on."""
        return self._changes.reader()

    async def _load(self) -> None:
        """Copy what is in the file."""
        found = await self._database.read(
            lambda connection: connection.execute(
                f"SELECT namespace, name, phase, {rows.COLUMNS} FROM jobs"
            ).fetchall()
        )
        self._copies.load((JobKey(*row[:2]), row[2], row[3:]) for row in found)

    async def _write(self, change: Callable[[sqlite3.Connection], Job]) -> Job:
        """Commit a change of one job and return the job as it is then."""

        def committed(job: Job) -> None:
            self._copies.put(job)
            self._changes.tell(job.key)

        return await self._database.write(change, committed)

    def _job(self, row: Row) -> Job:
        version, document, uid = row
        try:
            return replace(wire_store.job_from_json(document), version=str(version))
        except ValueError as error:
            raise self._unreadable(f"job with uid {uid}", error) from error

    def _unreadable(self, what: str, error: ValueError) -> ClusterUnavailable:
        return ClusterUnavailable(
            f"{self._database.path}: the {what} cannot be read ({error}); use the version of "
            "taas that wrote it, or put a copy of the file back"
        )
