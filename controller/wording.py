"""Sentences for people about what a job waits for and why. Pure; the same while nothing changes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from controller.group import Look
from controller.model import Failure, PodPhase

_NAMED_WORKERS = 3


def seconds(span: timedelta) -> str:
    """Return a span as "4 s"."""
    return f"{span.total_seconds():g} s"


def workers(count: int) -> str:
    """Return "1 worker" or "3 workers"."""
    return f"{count} worker" + ("" if count == 1 else "s")


def waiting(missing: Iterable[Look]) -> str:
    """Say which workers are waited for and what holds them up."""
    missing = tuple(missing)
    if len(missing) == 1:
        return f"waiting for worker {missing[0].index}: {_holdup(missing[0])}"
    return f"waiting for {workers(len(missing))}: {absent(missing)}"


def absent(missing: Iterable[Look], most: int = _NAMED_WORKERS) -> str:
    """Name the missing workers and what holds each up; beyond `most` only their number."""
    missing = tuple(missing)
    named = [f"worker {x.index}: {_holdup(x)}" for x in missing[:most]]
    more = [f"and {len(missing) - most} more"] if len(missing) > most else []
    return "; ".join(named + more)


def after(failure: Failure | None) -> str:
    """Return " after <failure>", or nothing."""
    return f" after: {failure.message}" if failure else ""


def _holdup(look: Look) -> str:
    pod = look.pod
    if look.refused:
        return f"its pod was refused: {look.refused}"
    if pod is None:
        return "its pod is being created"
    why = ": ".join(part for part in (pod.reason, pod.message) if part)
    if pod.deleting:
        return "its pod is going away"
    if pod.phase in (PodPhase.FAILED, PodPhase.SUCCEEDED):
        return f"its pod {pod.phase.value.lower()}" + (f" ({why})" if why else "")
    if look.lost:
        return "it fell silent, its pod is being replaced"
    if pod.phase is PodPhase.PENDING:
        return "its pod is Pending" + (f" ({why})" if why else "")
    if look.agent is None:
        return "its agent has not called yet"
    if not look.agent.connected:
        return "its agent is away"
    return "its trainer is still ending"
