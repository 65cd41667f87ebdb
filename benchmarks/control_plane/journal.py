"""Pods that are lines of a file: the controller appends to it, simulated agents read it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from controller.changes import Changes
from controller.local.manifests import container
from controller.model import Job, JobKey, PodPhase, PodSeen

NAME = "pods.jsonl"


@dataclass(frozen=True, slots=True)
class Born:
    """A pod, as its agent must know it."""

    uid: str
    namespace: str
    job: str
    job_uid: str
    index: int
    name: str
    created: str

    def seen(self) -> PodSeen:
        """Return the pod as the planner sees it: it runs as soon as it is there."""
        created = datetime.fromisoformat(self.created)
        return PodSeen(self.index, self.name, self.uid, PodPhase.RUNNING, created)


@dataclass(frozen=True, slots=True)
class Gone:
    """A pod is no more."""

    uid: str


class Tail:
    """Reads what was appended to a journal since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> Iterator[Born | Gone]:
        """Yield what is new; a torn last line is not there yet."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                fields = json.loads(line)
                yield Born(**fields) if len(fields) > 1 else Gone(**fields)


class JournalPods:
    """The Cluster over a journal. A controller that starts finds the pods of the one before; a
    pod that is deleted is gone at once."""

    def __init__(self, home: Path) -> None:
        self._path = home / NAME
        self._pods: dict[str, dict[str, PodSeen]] = {}  # by uid of the job and name
        self._changes = Changes()
        owners: dict[str, tuple[str, str]] = {}
        for told in Tail(self._path).read():
            if isinstance(told, Born):
                owners[told.uid] = (told.job_uid, told.name)
                self._pods.setdefault(told.job_uid, {})[told.name] = told.seen()
            else:
                job_uid, name = owners.pop(told.uid)
                del self._pods[job_uid][name]

    async def pods(self, job: Job) -> tuple[PodSeen, ...]:
        """Return the job's pods by index."""
        found = self._pods.get(job.uid, {}).values()
        return tuple(sorted(found, key=lambda pod: pod.index))

    async def apply(self, job: Job, manifest: Mapping[str, Any]) -> None:
        """Create the pod unless one of its name exists."""
        wanted = container(manifest)
        of_job = self._pods.setdefault(job.uid, {})
        if wanted.pod in of_job:
            return
        now = datetime.now(UTC).isoformat()
        place = (job.key.namespace, job.key.name, job.uid, wanted.index)
        pod = Born(str(uuid4()), *place, wanted.pod, now)
        of_job[wanted.pod] = pod.seen()
        self._tell(job.key, pod)

    async def delete(self, job: Job, name: str, grace_s: int) -> None:
        """Remove a pod. Nothing happens if it is gone."""
        pod = self._pods.get(job.uid, {}).pop(name, None)
        if pod is not None:
            self._tell(job.key, Gone(pod.uid))

    def changes(self) -> AsyncIterator[JobKey]:
        """Yield the key of every job one of whose pods changes from now on."""
        return self._changes.reader()

    def _tell(self, key: JobKey, what: Born | Gone) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(what)) + "\n")
        self._changes.tell(key)
