"""Kubernetes Events on a TrainingJob: what `kubectl describe` shows of its life.

A courtesy: they are sent in the background, bounded in number, and lost rather than waited for.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.errors import TaasError
from controller.kubernetes.background import Background
from controller.kubernetes.client import MERGE, Api, Document
from controller.kubernetes.replies import Missing, Taken
from controller.model import Job, LogEntry, Phase, StateChange, WorkerChange, WorkerState
from controller.resource import API_VERSION, KIND

_log = logging.getLogger(__name__)

_COMPONENT = "taas-controller"
_MOST_WAITING = 1000
# A job that keeps failing is told of this often at once, then once in so many seconds.
_BURST = 25
_REFILL_S = 60.0
# Jobs and repeated events that are remembered; what is forgotten is counted from one again.
_MOST_REMEMBERED = 4096
# The API server's own limit.
_MOST_MESSAGE_CHARS = 1024


@dataclass(frozen=True, slots=True)
class Note:
    """What an Event says. Notes of one job with one reason and message are one Event, counted."""

    warning: bool
    reason: str
    message: str


@dataclass(slots=True)
class _Allowance:
    left: float
    at: float


class Recorder:
    """Sends Events while its `async with` block runs. Its methods never fail and never wait."""

    def __init__(self, api: Api, *, instance: str = "") -> None:
        self._api = api
        self._instance = instance
        self._waiting: asyncio.Queue[tuple[Job, Note, datetime]] = asyncio.Queue(_MOST_WAITING)
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._background = Background()

    async def __aenter__(self) -> Recorder:
        await self._background.open()
        self._background.start(self._send_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._background.aclose()

    def record(self, job: Job, entries: Sequence[LogEntry]) -> None:
        """Tell of what was written to the job's event log, as far as people look for it here."""
        for entry in entries:
            said = note(entry)
            if said is not None:
                self.tell(job, said, entry.time)

    def tell(self, job: Job, said: Note, time: datetime | None = None) -> None:
        """Tell of something else that happened to a job."""
        if not self._allowed(job.uid) or self._waiting.full():
            _log.debug("%s: no Event %s, there were too many", job.key, said.reason)
            return
        self._waiting.put_nowait((job, said, time or datetime.now(UTC)))

    def _allowed(self, uid: str) -> bool:
        now = asyncio.get_running_loop().time()
        allowance = self._allowances.setdefault(uid, _Allowance(_BURST, now))
        self._allowances.move_to_end(uid)
        if len(self._allowances) > _MOST_REMEMBERED:
            self._allowances.popitem(last=False)
        refilled = allowance.left + (now - allowance.at) / _REFILL_S
        allowance.left, allowance.at = min(float(_BURST), refilled), now
        if allowance.left < 1:
            return False
        allowance.left -= 1
        return True

    async def _send_all(self) -> None:
        while True:
            job, said, time = await self._waiting.get()
            try:
                await self._send(job, said, time)
            except TaasError as error:
                _log.info("%s: Event %s was not sent: %s", job.key, said.reason, error)

    async def _send(self, job: Job, said: Note, time: datetime) -> None:
        name = _event_name(job, said)
        count = self._counts.get(name, 0) + 1
        url = f"/api/v1/namespaces/{job.key.namespace}/events"
        again = {"count": count, "lastTimestamp": _seconds(time)}
        if count > 1:
            try:
                await self._api.call("PATCH", f"{url}/{name}", body=again, content_type=MERGE)
            except Missing:
                count = 1  # Events are kept for an hour
        if count == 1:
            document = event(job, name, said, time, self._instance)
            try:
                await self._api.call("POST", url, body=document)
            except Taken:
                _log.debug("%s: Event %s was sent before", job.key, said.reason)
        self._counts[name] = count
        self._counts.move_to_end(name)
        if len(self._counts) > _MOST_REMEMBERED:
            self._counts.popitem(last=False)


def note(entry: LogEntry) -> Note | None:
    """Return what to tell of an entry; None for the comings of workers, which are many, and for
    costs, which are in the status."""
    change = entry.change
    if isinstance(change, StateChange):
        bad = change.failure is not None or change.after is Phase.FAILED
        message = change.message or f"from {change.before.value.lower()}"
        return Note(bad, change.after.word, message)
    if isinstance(change, WorkerChange) and change.after is WorkerState.LOST:
        why = change.message or "no reason is known"
        return Note(True, "WorkerLost", f"worker {change.index}: {why}")
    return None


def event(job: Job, name: str, said: Note, time: datetime, instance: str) -> Document:
    """Return the Event object."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": job.key.namespace, "name": name},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": job.key.namespace,
            "name": job.key.name,
            "uid": job.uid,
            "resourceVersion": job.version,
        },
        "type": "Warning" if said.warning else "Normal",
        "reason": said.reason,
        "message": said.message[:_MOST_MESSAGE_CHARS],
        "count": 1,
        "firstTimestamp": _seconds(time),
        "lastTimestamp": _seconds(time),
        "source": {"component": _COMPONENT},
        "reportingComponent": f"taas.dev/{_COMPONENT}",
        "reportingInstance": instance,
    }


def _event_name(job: Job, said: Note) -> str:
    digest = hashlib.sha256(f"{job.uid} {said.reason} {said.message}".encode()).hexdigest()
    return f"{job.key.name}.{digest[:16]}"


def _seconds(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
