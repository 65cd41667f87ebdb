"""The TrainingJob object of Kubernetes <-> model.Job. Pure.

spec and status of the object are the wire messages as proto JSON. The newest entries of the
event log lie in status.events, so that one write stores both. What kubectl lets through and the
service would have refused becomes a job that has failed, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from controller import wire, wire_store
from controller.errors import InvalidJob
from controller.model import (
    Failure,
    Job,
    JobKey,
    LogEntry,
    Phase,
    Reason,
    Spec,
    StateChange,
    Status,
)
from controller.parse_names import job_id
from controller.parse_spec import spec_from_wire
from controller.resource import API_VERSION, GROUP, KIND, PLURAL
from protos import proto_json
from protos.taas.v1 import job_pb2

ALL = f"/apis/{API_VERSION}/{PLURAL}"

FINALIZER = f"{GROUP}/cleanup"
REQUEST_ID = f"{GROUP}/request-id"
FINGERPRINT = f"{GROUP}/fingerprint"

# The log shares the object's 1.5 MB with everything else; a watcher that asks for what was
# dropped starts at the oldest entry kept.
_MOST_EVENTS = 256
_MOST_EVENT_BYTES = 256 * 1024

_EVENTS = "events"
_STATUS_FIELDS = frozenset(
    field.json_name for field in job_pb2.TrainingJobStatus.DESCRIPTOR.fields
) | {_EVENTS}

_M = TypeVar("_M", bound=Message)
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A TrainingJob object and the job it is.

    held: the finalizer is on it, so that it does not go before its workers and files.
    refusal: set while the object does not say yet that the job was refused; store it.
    """

    document: Document
    job: Job
    held: bool
    refusal: LogEntry | None = None


def path(namespace: str, name: str = "", subresource: str = "") -> str:
    """Return the path of a namespace's jobs, of one of them, or of a subresource of it."""
    parts = (f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}", name, subresource)
    return "/".join(part for part in parts if part)


# --- Reading


def read(document: Document) -> StoredJob:
    """Read a TrainingJob object; every one the API server can have is read."""
    metadata = document["metadata"]
    created = _time(metadata["creationTimestamp"])
    why: InvalidJob | None = None
    try:
        status = _status(document.get("status"))
    except InvalidJob as error:
        status, why = Status(), error
    try:
        spec = _spec(document, judged=status.phase_since is None)
    except InvalidJob as error:
        spec, why = wire.spec_with_defaults(_readable_spec(document)), why or error
    deleting = metadata.get("deletionTimestamp")
    annotations = metadata.get("annotations") or {}
    job = Job(
        key=JobKey(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        created=created,
        spec=spec,
        labels=tuple(sorted((metadata.get("labels") or {}).items())),
        request_id=annotations.get(REQUEST_ID, ""),
        fingerprint=annotations.get(FINGERPRINT, ""),
        deleting=_time(deleting) if deleting else None,
        version=metadata["resourceVersion"],
        status=status,
    )
    held = FINALIZER in (metadata.get("finalizers") or ())
    if why is None or status.phase.final:
        return StoredJob(document, job, held)
    job, entry = _refused(job, why)
    return StoredJob(document, job, held, entry)


def entries(document: Document, after: int) -> tuple[LogEntry, ...]:
    """Return the entries of the event log after that number, oldest first."""
    found = []
    for event in _events(document):
        number = event.get("number")
        if isinstance(number, int) and number > after:
            found.append(wire_store.entry_from_json(json.dumps({"number": number, "event": event})))
    return tuple(found)


def _events(document: Document) -> list[Document]:
    status = document.get("status")
    events = status.get(_EVENTS) if isinstance(status, dict) else None
    return [e for e in events if isinstance(e, dict)] if isinstance(events, list) else []


def _status(raw: object) -> Status:
    status = _filled(raw or {}, job_pb2.TrainingJobStatus(), "status")
    written = raw.get("phase") if isinstance(raw, dict) else None
    if written and status.phase == job_pb2.PHASE_UNSPECIFIED:
        # Taken for a new job, it would use the numbers of its generations twice.
        raise InvalidJob("status.phase", f"{str(written)[:80]!r} is no phase")
    return wire.status_from_wire(status)


def _spec(document: Document, *, judged: bool) -> Spec:
    """Return the spec. A job that nobody has looked at yet is judged as the service judges a
    request; later the rules may have become stricter, and it goes on all the same."""
    spec = _filled(document.get("spec") or {}, job_pb2.TrainingJobSpec(), "spec")
    if not judged:
        return wire.spec_with_defaults(spec)
    job_id(document["metadata"]["name"], "metadata.name")
    return spec_from_wire(spec, "spec")


def _readable_spec(document: Document) -> job_pb2.TrainingJobSpec:
    try:
        return _filled(document.get("spec") or {}, job_pb2.TrainingJobSpec(), "spec")
    except InvalidJob:
        return job_pb2.TrainingJobSpec()


def _filled(raw: object, message: _M, field: str) -> _M:
    if not isinstance(raw, dict):
        raise InvalidJob(field, f"{str(raw)[:80]!r} is no object; apply a manifest with one")
    try:
        return proto_json.filled(raw, message)
    except ValueError as error:
        raise InvalidJob(
            field, f"{str(error)[:300]}; `kubectl explain trainingjob.{field}` says what it is"
        ) from error


def _refused(job: Job, why: InvalidJob) -> tuple[Job, LogEntry]:
    """Return the job as failed for being no valid job. The time is that of its creation, so that
    it reads the same until that is stored."""
    at = job.created
    failure = Failure(Reason.INVALID_SPEC, f"the job cannot run: {why}", time=at)
    change = StateChange(
        job.status.phase, Phase.FAILED, job.status.generation, failure.message, failure
    )
    entry = LogEntry(job.status.last_event + 1, at, change)
    status = replace(
        job.status,
        phase=Phase.FAILED,
        phase_since=at,
        finished=at,
        message=failure.message,
        last_failure=failure,
        restart_after=None,
        last_event=entry.number,
    )
    return replace(job, status=status), entry


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- Writing


def new_document(job: Job) -> Document:
    """Return the object of a new job; the API server gives it uid, time and version."""
    annotations = {REQUEST_ID: job.request_id, FINGERPRINT: job.fingerprint}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "namespace": job.key.namespace,
            "name": job.key.name,
            "labels": dict(job.labels),
            "annotations": {key: text for key, text in annotations.items() if text},
            "finalizers": [FINALIZER],
        },
        "spec": _spec_json(job.spec),
    }


def spec_patch(stored: StoredJob, spec: Spec) -> Document:
    """Return the JSON merge patch of spec that makes it that one; {} if it is already."""
    raw = stored.document.get("spec") or {}
    change = _difference(_spec_json(stored.job.spec), _spec_json(spec))
    # What is unset may follow from what is changed, as minWorkers does from workers; then it
    # has to be spelled out.
    outcome = _readable_spec({"spec": _merged(raw, change)})
    again = _difference(_spec_json(wire.spec_with_defaults(outcome)), _spec_json(spec))
    return _merged(change, again, keep_none=True)


def status_patch(stored: StoredJob, status: Status, new: Sequence[LogEntry]) -> Document:
    """Return the JSON merge patch of status that makes it that one and appends to the event log;
    {} if nothing changes. Raises ValueError if the entries do not follow the log's last number."""
    kept = _events(stored.document)
    last = int(kept[-1].get("number", 0)) if kept else 0
    numbers = [entry.number for entry in new]
    if numbers != list(range(last + 1, last + 1 + len(numbers))):
        raise ValueError(f"entries {numbers} do not follow number {last} of the event log")
    # Those that were kept fit; to measure them again takes longer than all the rest.
    events = _bounded([*kept, *(_entry_json(entry) for entry in new)]) if new else kept
    return _status_difference(stored, status, events)


def refusal_patch(stored: StoredJob, refusal: LogEntry) -> Document:
    """Return the JSON merge patch of status that says that the job was refused."""
    return _status_difference(stored, stored.job.status, [_entry_json(refusal)])


def finalizers(stored: StoredJob, *, held: bool) -> list[str]:
    """Return the finalizers of the object with or without ours."""
    others = [f for f in stored.document["metadata"].get("finalizers") or () if f != FINALIZER]
    return [*others, FINALIZER] if held else others


def _status_difference(stored: StoredJob, status: Status, events: list[Document]) -> Document:
    raw = stored.document.get("status")
    raw = raw if isinstance(raw, dict) else {}
    before = {name: value for name, value in raw.items() if name in _STATUS_FIELDS}
    after = json_format.MessageToDict(wire.status_to_wire(status))
    return _difference(before, after | ({_EVENTS: events} if events else {}))


def _entry_json(entry: LogEntry) -> Document:
    event = json_format.MessageToDict(wire_store.entry_to_event(entry, cursor=""))
    return {"number": entry.number, **event}


def _bounded(events: list[Document]) -> list[Document]:
    """Return the newest events that fit."""
    size = 0
    for count, event in enumerate(reversed(events)):
        size += len(json.dumps(event))
        if count == _MOST_EVENTS or (size > _MOST_EVENT_BYTES and count):
            return events[len(events) - count :]
    return events


def _spec_json(spec: Spec) -> Document:
    return json_format.MessageToDict(wire.spec_to_wire(spec))


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Document:
    """Return the JSON merge patch from one object to another."""
    patch: Document = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := _difference(old, value):
                patch[name] = inner
        elif name not in before or old != value:
            patch[name] = value
    return patch


def _merged(
    document: Mapping[str, Any], patch: Mapping[str, Any], *, keep_none: bool = False
) -> Document:
    """Return an object with a JSON merge patch applied; with keep_none, two patches as one."""
    merged = dict(document)
    for name, value in patch.items():
        if isinstance(value, dict):
            inner = merged.get(name)
            merged[name] = _merged(
                inner if isinstance(inner, dict) else {}, value, keep_none=keep_none
            )
        elif value is None and not keep_none:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged
