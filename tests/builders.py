"""Short ways to write the values that the planning functions take."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.model import (
    ExitedSeen,
    Failure,
    Job,
    JobKey,
    MemberSeen,
    Outcome,
    Phase,
    PodPhase,
    PodSeen,
    ReleaseOrder,
    Seen,
    Source,
    Spec,
    Stage,
    StartOrder,
    Status,
    StopOrder,
    Task,
    Worker,
    WorkerState,
)
from controller.rendezvous import Decision

T0 = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AGO = T0 - timedelta(hours=1)


def at(seconds: float) -> datetime:
    """Return a moment some seconds after T0."""
    return T0 + timedelta(seconds=seconds)


def job(status: Status | None = None, *, deleting: datetime | None = None, **spec: Any) -> Job:
    """Return a job of two workers with that status and those fields of the spec."""
    plain = Spec(Task("task.py"), Source("0" * 64, 1), workers=2, min_workers=2)
    return Job(
        JobKey("default", "job"),
        "uid-1",
        LONG_AGO,
        replace(plain, **spec),
        deleting=deleting,
        status=status or Status(),
    )


def pod(index: int, uid: str = "", **changes: Any) -> PodSeen:
    """Return a running pod."""
    plain = PodSeen(index, f"job-{index}", uid or f"pod-{index}", PodPhase.RUNNING, LONG_AGO)
    return replace(plain, **changes)


def agent(index: int, running: int = 0, **changes: Any) -> MemberSeen:
    """Return the connected agent of `pod(index)`; a trainer that it runs makes steps."""
    plain = MemberSeen(index, f"pod-{index}", f"10.0.0.{index}:1", connected=True, heard=T0)
    if running:
        plain = replace(plain, running=running, stage=Stage.TRAINING, step=10, step_since=T0)
    return replace(plain, **changes)


def left(
    index: int, outcome: Outcome, reason: str = "", *, generation: int = 1, **changes: Any
) -> MemberSeen:
    """Return an agent whose trainer has ended."""
    failure = Failure(reason, f"worker {index}: {reason}", index, time=T0) if reason else None
    exited = ExitedSeen(generation, outcome, 10, failure)
    return agent(index, **{"exited": exited, **changes})


def seen(*members: MemberSeen, pods: tuple[PodSeen, ...] | None = None) -> Seen:
    """Return a world with those agents and, unless others are given, their pods."""
    return Seen(
        pods if pods is not None else tuple(pod(m.index) for m in members), members, LONG_AGO
    )


def running(generation: int = 1, members: tuple[int, ...] = (0, 1), **changes: Any) -> Status:
    """Return the status of a job whose newest generation makes steps."""
    status = Status(
        phase=Phase.RUNNING,
        phase_since=LONG_AGO,
        generation=generation,
        members=members,
        addresses=tuple(f"10.0.0.{index}:1" for index in members),
        generation_ended=False,
        workers=tuple(Worker(i, WorkerState.RUNNING, "", f"job-{i}") for i in members),
        started=LONG_AGO,
    )
    return replace(status, **changes)


def idle(phase: Phase = Phase.PENDING, **changes: Any) -> Status:
    """Return the status of a job of which nothing runs."""
    return replace(Status(phase=phase, phase_since=T0), **changes)


def told(decision: Decision) -> list[str]:
    """Return the orders in short."""
    texts = []
    for order in decision.orders:
        match order:
            case StartOrder():
                texts.append(f"start {order.index}")
            case StopOrder():
                texts.append(f"{'save' if order.save else 'stop'} {order.index}")
            case ReleaseOrder():
                texts.append(f"release {order.index}")
    return texts
