"""Pods that are lines in a file: whoever plays their agents reads it, and a later controller."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.changes import Changes
from controller.local.manifests import container
from controller.model import Job, JobKey, PodPhase, PodSeen

FILE = "pods.jsonl"


@dataclass(frozen=True, slots=True)
class Line:
    """A pod that was made at a time, in seconds since the epoch; gone: that it was removed."""

    uid: str
    namespace: str
    job: str
    job_uid: str
    index: int
    name: str
    at: float
    gone: bool = False

    @property
    def seen(self) -> PodSeen:
        """The pod as the planner sees it: it runs from the beginning."""
        created = datetime.fromtimestamp(self.at, UTC)
        return PodSeen(self.index, self.name, self.uid, PodPhase.RUNNING, created)


class Reading:
    """Reads the lines of a file as they come."""

    def __init__(self, home: Path) -> None:
        """Begin at the first."""
        self._path, self._offset = home / FILE, 0

    def more(self) -> list[Line]:
        """Return the whole lines that are new."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        return [Line(**json.loads(line)) for line in data.splitlines()]


class ToldPods:
    """The Cluster of the controller under measurement. A pod runs as soon as it is made, and is
    gone as soon as that is asked; those of a former controller are still there."""

    def __init__(self, home: Path) -> None:
        """Find the pods that there are."""
        self._changes = Changes()
        self._pods: dict[str, dict[str, Line]] = {}  # by uid of the job and name
        for line in Reading(home).more():
            self._note(line)
        self._file = (home / FILE).open("a")

    def _note(self, line: Line) -> None:
        pods = self._pods.setdefault(line.job_uid, {})
        if line.gone:
            pods.pop(line.name, None)
        else:
            pods[line.name] = line

    def _write(self, line: Line) -> None:
        self._note(line)
        self._file.write(json.dumps(asdict(line)) + "\n")
        self._file.flush()
        self._changes.tell(JobKey(line.namespace, line.job))

    async def pods(self, job: Job) -> tuple[PodSeen, ...]:
        """Return the job's pods by index."""
        lines = self._pods.get(job.uid, {}).values()
        return tuple(sorted((line.seen for line in lines), key=lambda pod: pod.index))

    async def apply(self, job: Job, manifest: Mapping[str, Any]) -> None:
        """Make the pod unless one of its name exists."""
        wanted = container(manifest)
        if wanted.pod in self._pods.get(job.uid, {}):
            return
        self._write(
            Line(
                str(uuid.uuid4()),
                job.key.namespace,
                job.key.name,
                job.uid,
                wanted.index,
                wanted.pod,
                time.time(),
            )
        )

    async def delete(self, job: Job, name: str, grace_s: int) -> None:
        """Remove the pod, if it is there."""
        del grace_s
        line = self._pods.get(job.uid, {}).get(name)
        if line is not None:
            self._write(Line(**{**asdict(line), "at": time.time(), "gone": True}))

    def changes(self) -> AsyncIterator[JobKey]:
        """Yield the key of every job one of whose pods changes from now on."""
        return self._changes.reader()
