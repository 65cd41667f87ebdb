"""The documents that lie in the store and in record files, and the events made from them. Pure.

They are the wire messages as proto JSON, one line each. Fields of a newer version are passed
over, so that a service that was rolled back still reads its jobs.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from controller.errors import InvalidJob
from controller.ledger import RestartCost
from controller.model import (
    Change,
    Failure,
    Job,
    LogEntry,
    Phase,
    StateChange,
    WorkerChange,
    WorkerState,
)
from controller.wire import (
    PHASES,
    WORKER_STATES,
    failure_from_wire,
    failure_to_wire,
    job_from_wire,
    job_to_wire,
)
from controller.wire_ledger import cost_from_wire, cost_to_wire
from controller.wire_values import member, moment, stamp
from protos import proto_json
from protos.taas.v1 import history_pb2, job_pb2

_M = TypeVar("_M", bound=Message)


def job_to_json(job: Job) -> str:
    """Return a job as one line of JSON with nothing left out."""
    document = {
        "job": json_format.MessageToDict(job_to_wire(job)),
        "requestId": job.request_id,
        "fingerprint": job.fingerprint,
    }
    return json.dumps(document, sort_keys=True)


def job_from_json(text: str) -> Job:
    """Parse what job_to_json wrote. Raises ValueError on anything else."""
    document = _document(text)
    job = _fill(document.get("job"), job_pb2.TrainingJob())
    try:
        return job_from_wire(
            job,
            request_id=str(document["requestId"]),
            fingerprint=str(document["fingerprint"]),
        )
    except (KeyError, InvalidJob) as error:
        raise ValueError(f"not a stored job: {error!r}") from error


def entry_to_json(entry: LogEntry) -> str:
    """Return an entry of the event log as one line of JSON."""
    event = json_format.MessageToDict(entry_to_event(entry, cursor=""))
    return json.dumps({"number": entry.number, "event": event}, sort_keys=True)


def entry_from_json(text: str) -> LogEntry:
    """Parse what entry_to_json wrote. Raises ValueError on anything else."""
    document = _document(text)
    event = _fill(document.get("event"), history_pb2.Event())
    number, time = document.get("number"), moment(event, "time")
    if not isinstance(number, int) or time is None:
        raise ValueError(f"not an entry of the event log: {_head(text)}")
    try:
        return LogEntry(number, time, _change_from_event(event))
    except InvalidJob as error:
        raise ValueError(f"not an entry of the event log: {error}") from error


def record_from_json(line: str) -> history_pb2.Record:
    """Parse a line of a record file. Raises ValueError on what is no record."""
    record = _fill(_document(line), history_pb2.Record())
    if record.WhichOneof("kind") is None:
        raise ValueError(f"not a record, it has no kind that is known here: {_head(line)}")
    return record


def entry_to_event(entry: LogEntry, cursor: str) -> history_pb2.Event:
    """Return an entry of the event log as a watcher sees it."""
    event = history_pb2.Event(cursor=cursor, time=stamp(entry.time))
    match entry.change:
        case StateChange() as change:
            event.state.CopyFrom(_state_change_to_wire(change))
        case WorkerChange() as change:
            event.worker.CopyFrom(_worker_change_to_wire(change))
        case RestartCost() as cost:
            event.restart.CopyFrom(cost_to_wire(cost))
    return event


def _state_change_to_wire(change: StateChange) -> history_pb2.StateChange:
    # "from" is a word of Python, so the field can be set by name only.
    ends: dict[str, Any] = {
        "from": f"PHASE_{change.before.value}",
        "to": f"PHASE_{change.after.value}",
    }
    return history_pb2.StateChange(
        **ends,
        generation=change.generation,
        message=change.message,
        failure=failure_to_wire(change.failure) if change.failure else None,
    )


def _worker_change_to_wire(change: WorkerChange) -> history_pb2.WorkerChange:
    ends: dict[str, Any] = {
        "from": f"WORKER_STATE_{change.before.value}",
        "to": f"WORKER_STATE_{change.after.value}",
    }
    return history_pb2.WorkerChange(
        **ends, index=change.index, generation=change.generation, message=change.message
    )


def _change_from_event(event: history_pb2.Event) -> Change:
    match event.WhichOneof("kind"):
        case "state":
            return _state_change(event.state)
        case "worker":
            return _worker_change(event.worker)
        case "restart":
            return cost_from_wire(event.restart)
        case other:
            raise InvalidJob("kind", f"{other!r} is no kind that is kept in the event log")


def _state_change(change: history_pb2.StateChange) -> StateChange:
    failure: Failure | None = None
    if change.HasField("failure"):
        failure = failure_from_wire(change.failure)
    before: Phase = member(PHASES, getattr(change, "from"), "from")
    after = member(PHASES, change.to, "to")
    return StateChange(before, after, change.generation, change.message, failure)


def _worker_change(change: history_pb2.WorkerChange) -> WorkerChange:
    before: WorkerState = member(WORKER_STATES, getattr(change, "from"), "from")
    after = member(WORKER_STATES, change.to, "to")
    return WorkerChange(change.index, before, after, change.generation, change.message)


def _document(text: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a document, {error}: {_head(text)}") from error
    if not isinstance(document, dict):
        raise ValueError(f"not a document, no JSON object: {_head(text)}")
    return document


def _fill(document: object, message: _M) -> _M:
    """Fill a message from proto JSON."""
    try:
        return proto_json.filled(document, message)
    except ValueError as error:
        raise ValueError(f"not a {message.DESCRIPTOR.name}: {_head(str(error))}") from error


def _head(text: str) -> str:
    """Return what is shown of a text that cannot be read: it may be a long one."""
    return repr(text[:200])
