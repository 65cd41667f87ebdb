"""Jobs, statuses and entries that the contract tests store."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from controller.model import (
    Failure,
    Job,
    JobKey,
    LogEntry,
    Phase,
    Source,
    Spec,
    StateChange,
    Status,
    Task,
    WorkerChange,
    WorkerState,
)

NOON = datetime(2024, 5, 6, 12, 0, 0, tzinfo=UTC)
RUNNING = Status(phase=Phase.RUNNING, phase_since=NOON, generation=1, generation_ended=False)
DIGEST = "ab" * 32


def a_job(
    name: str = "mnist",
    *,
    namespace: str = "default",
    labels: tuple[tuple[str, str], ...] = (),
    phase: Phase = Phase.PENDING,
) -> Job:
    """Return a new job."""
    return Job(
        key=JobKey(namespace, name),
        uid=str(uuid.uuid4()),
        created=NOON,
        spec=Spec(Task("task.py"), source=Source(DIGEST, 10), workers=2, min_workers=2),
        labels=labels,
        request_id="request",
        status=Status(phase=phase),
    )


def an_entry(number: int) -> LogEntry:
    """Return an entry of the event log; odd ones are of workers."""
    if number % 2:
        change = WorkerChange(1, WorkerState.PENDING, WorkerState.READY, 1, "worker 1 is there")
        return LogEntry(number, NOON, change)
    failure = Failure("TrainerCrashed", "it crashed", worker=1, exit_code=3, time=NOON)
    return LogEntry(number, NOON, StateChange(Phase.RUNNING, Phase.RESTARTING, 1, "again", failure))
