"""Who is to blame for a generation's end, what it costs the job, and how long to wait. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from controller.backoff import doubled
from controller.model import Failure, Phase, Reason, Spec, Status

_FIRST_BACKOFF_S = 1
_LONGEST_BACKOFF_S = 300


def backoff(status: Status) -> timedelta:
    """Return the wait after the last failure, which `status` has accounted for.

    1 s after the first crash, doubled for each, 300 s at most. A loss is followed by a start at
    once; but losses that repeat while no step is won are waited after in the same way, for
    whatever causes them would otherwise go on for ever at full speed.
    """
    failure = status.last_failure
    times = status.crashes if failure is not None and counted(failure) else status.futile_restarts
    if times < 1:
        return timedelta()
    return timedelta(seconds=doubled(_FIRST_BACKOFF_S, times, longest_s=_LONGEST_BACKOFF_S))


def culprit(recorded: Failure | None, found: Iterable[Failure]) -> Failure | None:
    """Return the earliest failure, the recorded one included; the lower index on a tie.

    Times come from agents and from the controller. Clocks that differ by more than a failure
    takes to spread can put the blame on a consequence; the job goes on all the same.
    """
    failures = [*([recorded] if recorded else []), *found]
    timed = [f for f in failures if f.time is not None]
    return min(timed, key=lambda f: (f.time, f.worker), default=None)


def counted(failure: Failure) -> bool:
    """Say whether a failure counts against max_restarts."""
    return failure.reason in Reason.COUNTED or failure.reason == Reason.INVALID_PROGRAM


def verdict(status: Status, spec: Spec, failure: Failure) -> Failure | None:
    """Return why the job fails for good if this failure ends its generation, None if it goes on."""
    if failure.reason == Reason.INVALID_PROGRAM and not _has_made_a_step(status):
        return failure
    crashes = status.crashes + counted(failure)
    if crashes <= spec.max_restarts or not counted(failure):
        return None
    times = "once" if crashes == 1 else f"{crashes} times"
    return replace(
        failure,
        reason=Reason.TOO_MANY_RESTARTS,
        message=f"crashed {times} (maxRestarts is {spec.max_restarts}); last: {failure.message}",
    )


def accounted(status: Status, spec: Spec, failure: Failure, now: datetime) -> Status:
    """Return the status after a generation ended through a failure: counters, back-off and,
    when the budget is used up, the end of the job. To be applied once a generation."""
    final = verdict(status, spec, failure)
    crashes = status.crashes + counted(failure)
    status = replace(status, crashes=crashes)
    if final is not None:
        return failed(status, final, now)
    by_reason = dict(status.restarts_by_reason)
    by_reason[failure.reason] = by_reason.get(failure.reason, 0) + 1
    step = status.progress.step
    futile = status.restarts > 0 and step <= status.failed_at_step
    status = replace(
        status,
        restarts=status.restarts + 1,
        restarts_by_reason=tuple(sorted(by_reason.items())),
        futile_restarts=status.futile_restarts + 1 if futile else 0,
        failed_at_step=max(step, status.failed_at_step),
        last_failure=failure,
    )
    wait = backoff(status)
    return replace(status, restart_after=now + wait if wait else None)


def failed(status: Status, failure: Failure, now: datetime) -> Status:
    """Return the status of a job that has failed for good."""
    return replace(
        status,
        phase=Phase.FAILED,
        phase_since=now,
        finished=now,
        message=failure.message,
        last_failure=failure,
        restart_after=None,
    )


def _has_made_a_step(status: Status) -> bool:
    return status.progress.step > 0 or status.last_checkpoint is not None
