"""The three things the controller stands on, as Protocols. Adapters: controller.local.* and
controller.kubernetes.*, and controller.gateway.storage.

Every method may raise ClusterUnavailable; adapters translate what their libraries raise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from controller.model import Checkpoint, Job, JobKey, LogEntry, PodSeen, Spec, Status


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs of one list call, newest first, and the token of the next page ("" at the end)."""

    jobs: tuple[Job, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class ListFilter:
    """What a list call wants: all fields given must match."""

    namespace: str | None = None
    phases: frozenset[str] = frozenset()
    labels: tuple[tuple[str, str], ...] = ()
    name_prefix: str = ""


class JobStore(Protocol):
    """The only durable state of jobs. A write that has returned survives the loss of power."""

    async def create(self, job: Job) -> Job:
        """Store a new job and return it with its version. Raises JobExists."""
        ...

    async def get(self, key: JobKey) -> Job:
        """Return a job. Raises JobNotFound."""
        ...

    async def list(self, wanted: ListFilter, page_size: int, token: str) -> Page:
        """Return a page of jobs, newest first. Raises InvalidJob("pageToken") on a bad token."""
        ...

    async def keys(self) -> tuple[JobKey, ...]:
        """Return the keys of all jobs."""
        ...

    async def unfinished(self, namespace: str) -> tuple[Job, ...]:
        """Return the jobs of a namespace that are not final, in no order. Asked at each submit."""
        ...

    async def put_spec(self, job: Job, spec: Spec) -> Job:
        """Replace the spec if the stored version is still job's. Raises Conflict, JobNotFound."""
        ...

    async def put_status(self, job: Job, status: Status, entries: Sequence[LogEntry]) -> Job:
        """Replace the status and append to the event log in one transaction, if the stored
        version is still job's. Raises Conflict, JobNotFound."""
        ...

    async def mark_deleting(self, key: JobKey) -> Job:
        """Record that deletion was asked for; a second call changes nothing. Raises JobNotFound."""
        ...

    async def remove(self, job: Job) -> None:
        """Forget a job and its event log. Nothing happens if it is gone."""
        ...

    async def entries(self, job: Job, after: int) -> tuple[LogEntry, ...]:
        """Return the event log after that number, oldest first."""
        ...

    def changes(self) -> AsyncIterator[JobKey]:
        """Yield the key of every job that is written from now on, by whoever. A key may come
        more than once for one write, and once for several."""
        ...


class Cluster(Protocol):
    """Where workers live."""

    async def pods(self, job: Job) -> tuple[PodSeen, ...]:
        """Return the job's pods by index, lost ones included until they are deleted."""
        ...

    async def apply(self, job: Job, manifest: Mapping[str, Any]) -> None:
        """Create the pod unless one of its name exists. Raises ClusterRefused."""
        ...

    async def delete(self, job: Job, name: str, grace_s: int) -> None:
        """Begin to end a pod: SIGTERM to its agent, SIGKILL to all of it after the grace.
        Returns at once; nothing happens if it is gone or being deleted."""
        ...

    def changes(self) -> AsyncIterator[JobKey]:
        """Yield the key of every job one of whose pods changes from now on."""
        ...


class Storage(Protocol):
    """Shared storage: what trainers and agents wrote to a job's claim, read-only, and the sources
    that clients bring to a claim of a namespace. Layout: trainer.storage. Where there are no
    claims, all of them are one folder."""

    async def generations(self, job: Job) -> tuple[int, ...]:
        """Return the generations that have a record file, ascending."""
        ...

    async def records(self, job: Job, generation: int, start: int, limit: int) -> Sequence[str]:
        """Return complete lines of a record file from that line number on; a torn last line
        is not there yet."""
        ...

    async def read_log(self, job: Job, worker: int, offset: int, limit: int) -> tuple[int, bytes]:
        """Return at most limit bytes of a worker's log and where they begin: at the offset, or
        later if what was there is not kept. b"" at or past the end."""
        ...

    async def log_size(self, job: Job, worker: int) -> int:
        """Return the offset behind the newest byte of a worker's log, 0 if there is none."""
        ...

    async def checkpoints(self, job: Job) -> tuple[Checkpoint, ...]:
        """Return the committed checkpoints, newest first."""
        ...

    async def files(self, job: Job, checkpoint: str | None) -> tuple[tuple[str, int], ...]:
        """Return (path, bytes) of a checkpoint's files, or of the output folder for None, sorted.
        Raises JobNotFound for an unknown checkpoint."""
        ...

    async def read_file(
        self, job: Job, checkpoint: str | None, path: str, offset: int, limit: int
    ) -> bytes:
        """Return at most limit bytes; b"" at the end. Raises JobNotFound for what is not a file
        below that tree: `..`, absolute paths and links that lead out are refused."""
        ...

    async def has_source(self, namespace: str, claim: str, digest: str) -> bool:
        """Say whether the archive of that digest is there."""
        ...

    def open_source(self, namespace: str, claim: str, digest: str, size: int) -> SourceWriter:
        """Begin to receive an archive."""
        ...

    async def delete_job(self, job: Job) -> None:
        """Remove all files of a job. Nothing happens if there are none."""
        ...

    async def collect_sources(self, namespace: str, claim: str, keep: frozenset[str]) -> None:
        """Remove source archives that are not in keep and were not touched for an hour."""
        ...


class SourceWriter(Protocol):
    """Receives one archive. Nothing is visible before commit returns."""

    async def write(self, data: bytes) -> None:
        """Append. Raises InvalidJob when there is more than was announced."""
        ...

    async def commit(self) -> None:
        """Check size and digest, then publish durably. Raises InvalidJob, and keeps nothing."""
        ...

    async def abort(self) -> None:
        """Throw away what was received."""
        ...
