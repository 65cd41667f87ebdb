"""What the local cluster remembers of its pods, in a SQLite file."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from controller.local.database import Database, Schema
from controller.model import JobKey, PodPhase, PodSeen

_SCHEMA = Schema(
    1,
    """
    CREATE TABLE pods (
        uid TEXT PRIMARY KEY,
        namespace TEXT NOT NULL,
        job TEXT NOT NULL,
        job_uid TEXT NOT NULL,
        worker INTEGER NOT NULL,
        name TEXT NOT NULL,
        created TEXT NOT NULL,
        phase TEXT NOT NULL,
        reason TEXT NOT NULL,
        message TEXT NOT NULL,
        pid INTEGER NOT NULL,
        deadline REAL,
        UNIQUE (job_uid, name)
    ) WITHOUT ROWID;
    """,
)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. pid is 0 until its leader is started; deadline is set once it is being deleted:
    seconds since the epoch at which all of it is killed."""

    uid: str
    job: JobKey
    job_uid: str
    index: int
    name: str
    created: datetime
    phase: PodPhase = PodPhase.PENDING
    reason: str = ""
    message: str = ""
    pid: int = 0
    deadline: float | None = None

    @property
    def ended(self) -> bool:
        """True when its leader is dead and nothing of it is left."""
        return self.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)

    def seen(self) -> PodSeen:
        """Return the pod as the planner sees it."""
        return PodSeen(
            index=self.index,
            name=self.name,
            uid=self.uid,
            phase=self.phase,
            created=self.created,
            reason=self.reason,
            message=self.message,
            deleting=self.deadline is not None,
        )


class PodTable:
    """The pods of a state folder, durable. All methods may raise ClusterUnavailable."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    async def open(self) -> None:
        """Open the file, creating it if there is none."""
        await self._database.open()

    async def aclose(self) -> None:
        """Close the file."""
        await self._database.aclose()

    async def all(self) -> tuple[Pod, ...]:
        """Return every pod."""
        rows = await self._database.read(
            lambda connection: connection.execute("SELECT * FROM pods").fetchall()
        )
        return tuple(_pod(row) for row in rows)

    async def add(self, pod: Pod) -> None:
        """Remember a new pod."""
        row = (
            pod.uid,
            pod.job.namespace,
            pod.job.name,
            pod.job_uid,
            pod.index,
            pod.name,
            pod.created.isoformat(),
            pod.phase.value,
            pod.reason,
            pod.message,
            pod.pid,
            pod.deadline,
        )
        await self._execute(f"INSERT INTO pods VALUES ({', '.join('?' * len(row))})", row)

    async def set_pid(self, uid: str, pid: int) -> None:
        """Remember the leader of a pod; the pod runs."""
        await self._execute(
            "UPDATE pods SET pid = ?, phase = ? WHERE uid = ?", (pid, PodPhase.RUNNING.value, uid)
        )

    async def set_end(self, uid: str, phase: PodPhase, *, reason: str, message: str) -> None:
        """Remember how a pod ended."""
        await self._execute(
            "UPDATE pods SET phase = ?, reason = ?, message = ? WHERE uid = ?",
            (phase.value, reason, message, uid),
        )

    async def set_deadline(self, uid: str, deadline: float) -> None:
        """Remember that a pod is being deleted, and when it is killed."""
        await self._execute("UPDATE pods SET deadline = ? WHERE uid = ?", (deadline, uid))

    async def remove(self, uid: str) -> None:
        """Forget a pod."""
        await self._execute("DELETE FROM pods WHERE uid = ?", (uid,))

    async def _execute(self, statement: str, values: tuple[str | int | float | None, ...]) -> None:
        def change(connection: sqlite3.Connection) -> None:
            connection.execute(statement, values)

        await self._database.write(change)


def _pod(row: tuple[str, str, str, str, int, str, str, str, str, str, int, float | None]) -> Pod:
    uid, namespace, job, job_uid, index, name, created, phase, reason, message, pid, deadline = row
    return Pod(
        uid=uid,
        job=JobKey(namespace, job),
        job_uid=job_uid,
        index=index,
        name=name,
        created=datetime.fromisoformat(created),
        phase=PodPhase(phase),
        reason=reason,
        message=message,
        pid=pid,
        deadline=deadline,
    )
