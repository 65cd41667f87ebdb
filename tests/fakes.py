"""In-memory stand-ins for the adapters of controller.ports, under the same contract tests.

FakeCluster lets a test say what happens to pods, and refuses what cannot happen.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from controller import paging
from controller.access.callers import Action, Caller, PodIdentity, Verdict
from controller.changes import Changes
from controller.errors import (
    ClusterUnavailable,
    Conflict,
    JobExists,
    JobNotFound,
    TaasError,
    Unauthenticated,
)
from controller.local.manifests import container
from controller.model import Job, JobKey, LogEntry, PodPhase, PodSeen, Spec, Status
from controller.ports import ListFilter, Page

_T = TypeVar("_T")


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass
class _Stored:
    number: int
    job: Job
    entries: list[LogEntry] = field(default_factory=list)


class FakeStore:
    """A JobStore in memory."""

    def __init__(self, *, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._jobs: dict[JobKey, _Stored] = {}
        self._numbers = 0
        self._changes = Changes()

    async def create(self, job: Job) -> Job:
        """Store a new job."""
        if job.key in self._jobs:
            raise JobExists(str(job.key))
        self._numbers += 1
        self._jobs[job.key] = _Stored(self._numbers, replace(job, version="1"))
        return self._written(job.key)

    async def get(self, key: JobKey) -> Job:
        """Return a job."""
        return self._stored(key).job

    async def list(self, wanted: ListFilter, page_size: int, token: str) -> Page:
        """Return a page of jobs, newest first."""
        before = paging.position(token, wanted)
        found = [
            stored
            for stored in sorted(self._jobs.values(), key=lambda s: s.number, reverse=True)
            if _matches(stored.job, wanted) and (before is None or stored.number < before)
        ]
        shown = found[:page_size]
        more = len(found) > len(shown) and shown
        next_token = paging.token(shown[-1].number, wanted) if more else ""
        return Page(tuple(stored.job for stored in shown), next_token)

    async def keys(self) -> tuple[JobKey, ...]:
        """Return the keys of all jobs."""
        return tuple(self._jobs)

    async def unfinished(self, namespace: str) -> tuple[Job, ...]:
        """Return the jobs of a namespace that are not final."""
        jobs = (stored.job for stored in self._jobs.values())
        return tuple(j for j in jobs if j.key.namespace == namespace and not j.status.phase.final)

    async def put_spec(self, job: Job, spec: Spec) -> Job:
        """Replace the spec, by compare-and-set."""
        return self._replace(self._same(job), spec=spec)

    async def put_status(self, job: Job, status: Status, entries: Sequence[LogEntry]) -> Job:
        """Replace the status and append to the event log, by compare-and-set."""
        stored = self._same(job)
        last = len(stored.entries)
        numbers = [entry.number for entry in entries]
        if numbers != builtins.list(range(last + 1, last + 1 + len(numbers))):
            raise ValueError(f"entries {numbers} do not follow number {last} of the event log")
        stored.entries.extend(entries)
        return self._replace(stored, status=status)

    async def mark_deleting(self, key: JobKey) -> Job:
        """Record that deletion was asked for."""
        stored = self._stored(key)
        if stored.job.deleting is not None:
            return stored.job
        return self._replace(stored, deleting=self._now())

    async def remove(self, job: Job) -> None:
        """Forget a job and its event log."""
        stored = self._jobs.get(job.key)
        if stored is not None and stored.job.uid == job.uid:
            del self._jobs[job.key]
            self._changes.tell(job.key)

    async def entries(self, job: Job, after: int) -> tuple[LogEntry, ...]:
        """Return the event log after that number."""
        stored = self._jobs.get(job.key)
        if stored is None or stored.job.uid != job.uid:
            return ()
        return tuple(entry for entry in stored.entries if entry.number > after)

    def changes(self) -> AsyncIterator[JobKey]:
        """Yield the keys of written jobs."""
        return self._changes.reader()

    def _stored(self, key: JobKey) -> _Stored:
        if key not in self._jobs:
            raise JobNotFound(str(key))
        return self._jobs[key]

    def _same(self, job: Job) -> _Stored:
        stored = self._stored(job.key)
        if (stored.job.version, stored.job.uid) != (job.version, job.uid):
            raise Conflict(f"{job.key} is at version {stored.job.version}, not {job.version}")
        return stored

    def _replace(self, stored: _Stored, **change: Any) -> Job:
        version = str(int(stored.job.version) + 1)
        stored.job = replace(stored.job, version=version, **change)
        return self._written(stored.job.key)

    def _written(self, key: JobKey) -> Job:
        self._changes.tell(key)
        return self._jobs[key].job


def _matches(job: Job, wanted: ListFilter) -> bool:
    return (
        wanted.namespace in (None, job.key.namespace)
        and (not wanted.phases or job.status.phase.value in wanted.phases)
        and job.key.name.startswith(wanted.name_prefix)
        and set(wanted.labels) <= set(job.labels)
    )


@dataclass
class FakePod:
    """A pod of the fake cluster: what is seen of it, and the manifest it came from."""

    job: JobKey
    job_uid: str
    seen: PodSeen
    manifest: Mapping[str, Any]
    grace_s: int | None = None


class ImpossibleHistory(AssertionError):
    """A test asked for something that no cluster does."""


class FakeCluster:
    """A Cluster in memory. Pods do nothing by themselves: a test says what happens to them.

    `refuse`, when set, is raised by the next calls of apply. A job is named by its key; while
    pods of two jobs of one name are there, its newest one is meant.
    """

    def __init__(self, *, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._pods: list[FakePod] = []
        self._born = 0
        self._changes = Changes()
        self.refuse: TaasError | None = None

    # --- The port

    async def pods(self, job: Job) -> tuple[PodSeen, ...]:
        """Return the job's pods by index."""
        seen = [pod.seen for pod in self._pods if pod.job_uid == job.uid]
        return tuple(sorted(seen, key=lambda pod: (pod.index, pod.name)))

    async def apply(self, job: Job, manifest: Mapping[str, Any]) -> None:
        """Create the pod unless one of its name exists."""
        wanted = container(manifest)
        if self._named(job, wanted.pod) is not None:
            return
        if self.refuse is not None:
            raise self.refuse
        self._born += 1
        seen = PodSeen(
            index=wanted.index,
            name=wanted.pod,
            uid=f"pod-uid-{self._born}",
            phase=PodPhase.PENDING,
            created=self._now(),
        )
        self._pods.append(FakePod(job.key, job.uid, seen, manifest))
        self._changes.tell(job.key)

    async def delete(self, job: Job, name: str, grace_s: int) -> None:
        """Begin to end a pod; `pod_is_gone` ends it."""
        pod = self._named(job, name)
        if pod is None or pod.seen.deleting:
            return
        pod.grace_s = grace_s
        self._set(pod, deleting=True)

    def changes(self) -> AsyncIterator[JobKey]:
        """Yield the keys of jobs whose pods change."""
        return self._changes.reader()

    # --- What happens to pods

    def pod(self, key: JobKey, index: int) -> FakePod:
        """Return the pod of a worker."""
        found = [p for p in self._pods if p.job == key and p.seen.index == index]
        if not found:
            raise ImpossibleHistory(f"{key} has no pod for worker {index}")
        return found[-1]

    def pod_waits(self, key: JobKey, index: int, reason: str, message: str = "") -> None:
        """A pending pod says why it is not running, for example ImagePullBackOff."""
        pod = self._in(key, index, PodPhase.PENDING)
        self._set(pod, reason=reason, message=message)

    def pod_runs(self, key: JobKey, index: int) -> None:
        """A pending pod starts."""
        pod = self._in(key, index, PodPhase.PENDING)
        self._set(pod, phase=PodPhase.RUNNING, reason="", message="")

    def pod_succeeds(self, key: JobKey, index: int) -> None:
        """A running pod's agent leaves with exit code 0."""
        pod = self._in(key, index, PodPhase.RUNNING)
        self._set(pod, phase=PodPhase.SUCCEEDED, reason="Completed")

    def pod_fails(self, key: JobKey, index: int, reason: str = "Error", message: str = "") -> None:
        """A pod that has not ended fails: its agent died, it was evicted, its node was lost."""
        pod = self._in(key, index, PodPhase.PENDING, PodPhase.RUNNING)
        self._set(pod, phase=PodPhase.FAILED, reason=reason, message=message)

    def pod_is_gone(self, key: JobKey, index: int) -> None:
        """A pod that is being deleted has ended."""
        pod = self.pod(key, index)
        if not pod.seen.deleting:
            raise ImpossibleHistory(f"pod {pod.seen.name} is not being deleted")
        self._remove(pod)

    def pod_vanishes(self, key: JobKey, index: int) -> None:
        """A pod is deleted by somebody else, at once."""
        self._remove(self.pod(key, index))

    def finish_deletions(self) -> int:
        """End all pods that are being deleted; return how many there were."""
        deleting = [pod for pod in self._pods if pod.seen.deleting]
        for pod in deleting:
            self._remove(pod)
        return len(deleting)

    def _in(self, key: JobKey, index: int, *phases: PodPhase) -> FakePod:
        pod = self.pod(key, index)
        if pod.seen.phase not in phases:
            raise ImpossibleHistory(f"pod {pod.seen.name} is {pod.seen.phase.value}")
        return pod

    def _named(self, job: Job, name: str) -> FakePod | None:
        for pod in self._pods:
            if pod.job_uid == job.uid and pod.seen.name == name:
                return pod
        return None

    def _set(self, pod: FakePod, **change: Any) -> None:
        pod.seen = replace(pod.seen, **change)
        self._changes.tell(pod.job)

    def _remove(self, pod: FakePod) -> None:
        self._pods.remove(pod)
        self._changes.tell(pod.job)


class FakeAccess:
    """An Access in memory: tokens that somebody has, and rights that somebody was given."""

    def __init__(self) -> None:
        self.callers: dict[str, Caller] = {}
        self.pods: dict[str, PodIdentity] = {}
        # (caller, verb, namespace, subresource)
        self.rights: set[tuple[str, str, str, str]] = set()
        self.away = False
        self.questions = 0

    async def caller(self, token: str) -> Caller:
        """Return whose token this is."""
        return self._found(self.callers, token)

    async def pod(self, token: str) -> PodIdentity:
        """Return whose token this is."""
        return self._found(self.pods, token)

    async def verdict(self, caller: Caller, action: Action) -> Verdict:
        """Say whether the right was given."""
        self._ask()
        asked = (caller.name, action.verb, action.namespace, action.subresource)
        return Verdict(asked in self.rights)

    def _found(self, known: Mapping[str, _T], token: str) -> _T:
        self._ask()
        if token not in known:
            raise Unauthenticated("nobody knows the token")
        return known[token]

    def _ask(self) -> None:
        self.questions += 1
        if self.away:
            raise ClusterUnavailable("the API server does not answer")
