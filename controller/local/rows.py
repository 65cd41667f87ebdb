"""The rows of a store's tables: statements that run in the thread of its file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from controller import wire_store
from controller.errors import Conflict, JobNotFound
from controller.local.copies import Row
from controller.local.database import Schema
from controller.model import Job, JobKey, LogEntry
from controller.ports import ListFilter

# number orders jobs by arrival; AUTOINCREMENT never gives one out twice, so that a page token
# made from it stays good when jobs go. phase and labels are copies out of the document, for
# filters.
SCHEMA = Schema(
    1,
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        uid TEXT NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        phase TEXT NOT NULL,
        document TEXT NOT NULL,
        UNIQUE (namespace, name)
    );
    CREATE TABLE labels (
        uid TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (uid, key)
    ) WITHOUT ROWID;
    CREATE TABLE entries (
        uid TEXT NOT NULL,
        number INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (uid, number)
    ) WITHOUT ROWID;
    """,
)
COLUMNS = "version, document, uid"


def find(connection: sqlite3.Connection, key: JobKey) -> Row | None:
    """Return the row of a job, None if there is none."""
    row: Row | None = connection.execute(
        f"SELECT {COLUMNS} FROM jobs WHERE namespace = ? AND name = ?", (key.namespace, key.name)
    ).fetchone()
    return row


def check_same(connection: sqlite3.Connection, job: Job) -> None:
    """Raise Conflict unless the stored job is at the same version, and JobNotFound if it is not
    there."""
    row = connection.execute(
        "SELECT version, uid FROM jobs WHERE namespace = ? AND name = ?",
        (job.key.namespace, job.key.name),
    ).fetchone()
    if row is None:
        raise JobNotFound(str(job.key))
    version, uid = row
    if (str(version), uid) != (job.version, job.uid):
        raise Conflict(f"{job.key} is at version {version}, not {job.version or 'any'}")


def replaced(connection: sqlite3.Connection, job: Job) -> Job:
    """Store another state of a job that is at the version it has, as the next version."""
    stored = replace(job, version=str(int(job.version) + 1))
    connection.execute(
        "UPDATE jobs SET version = ?, phase = ?, document = ? WHERE uid = ?",
        (
            int(stored.version),
            stored.status.phase.value,
            wire_store.job_to_json(stored),
            stored.uid,
        ),
    )
    return stored


def conditions(wanted: ListFilter) -> tuple[list[str], list[str | int]]:
    """Return the terms of a WHERE clause and their values."""
    where: list[str] = []
    values: list[str | int] = []
    if wanted.namespace is not None:
        where.append("namespace = ?")
        values.append(wanted.namespace)
    if wanted.phases:
        where.append(f"phase IN ({', '.join('?' * len(wanted.phases))})")
        values.extend(sorted(wanted.phases))
    if wanted.name_prefix:
        where.append("substr(name, 1, ?) = ?")
        values.extend((len(wanted.name_prefix), wanted.name_prefix))
    for key, value in wanted.labels:
        where.append(
            "EXISTS (SELECT 1 FROM labels WHERE labels.uid = jobs.uid AND key = ? AND value = ?)"
        )
        values.extend((key, value))
    return where, values


def append(connection: sqlite3.Connection, uid: str, entries: Sequence[LogEntry]) -> None:
    """Append to a job's event log. Raises ValueError if the entries do not follow its last."""
    if not entries:
        return
    (last,) = connection.execute(
        "SELECT COALESCE(MAX(number), 0) FROM entries WHERE uid = ?", (uid,)
    ).fetchone()
    numbers = [entry.number for entry in entries]
    if numbers != list(range(last + 1, last + 1 + len(numbers))):
        raise ValueError(f"entries {numbers} do not follow number {last} of the event log")
    connection.executemany(
        "INSERT INTO entries VALUES (?, ?, ?)",
        [(uid, entry.number, wire_store.entry_to_json(entry)) for entry in entries],
    )
