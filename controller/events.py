"""The entries of a job's event log, as the difference of two statuses. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from controller.ledger import RestartCost
from controller.model import (
    Change,
    Failure,
    LogEntry,
    Phase,
    StateChange,
    Status,
    Worker,
    WorkerChange,
)

_BETWEEN_GENERATIONS = (Phase.PENDING, Phase.RESTARTING, Phase.SUSPENDED)


def numbered(before: Status, after: Status, now: datetime) -> tuple[Status, tuple[LogEntry, ...]]:
    """Return `after` with its last_event raised, and the entries to store with it."""
    entries = entries_between(before, after, now)
    return replace(after, last_event=before.last_event + len(entries)), entries


def entries_between(before: Status, after: Status, now: datetime) -> tuple[LogEntry, ...]:
    """Return what has happened between two statuses, numbered from before.last_event + 1.

    Workers come first: what befell them is mostly why the job's phase changed.
    """
    changes: tuple[Change, ...] = (
        *_worker_changes(before, after),
        *_state_changes(before, after),
        *_costs(before, after),
    )
    return tuple(
        LogEntry(number, now, change)
        for number, change in enumerate(changes, start=before.last_event + 1)
    )


def _worker_changes(before: Status, after: Status) -> tuple[WorkerChange, ...]:
    former = {w.index: w for w in before.workers}
    pairs = [(former.get(w.index, Worker(w.index)), w) for w in after.workers]
    return tuple(
        WorkerChange(new.index, old.state, new.state, after.generation, new.reason)
        for old, new in pairs
        if old.state is not new.state
    )


def _state_changes(before: Status, after: Status) -> tuple[StateChange, ...]:
    failure = after.last_failure if after.last_failure != before.last_failure else None
    if after.phase is Phase.FAILED and before.phase is not Phase.FAILED:
        failure = after.last_failure
    started_anew = after.generation != before.generation
    if started_anew and before.phase not in _BETWEEN_GENERATIONS:
        # The end of one generation and the start of the next fell into one pass.
        return (
            _change(before, Phase.RESTARTING, before.generation, _cause(failure), failure),
            _change(
                replace(before, phase=Phase.RESTARTING),
                after.phase,
                after.generation,
                after.message,
            ),
        )
    found_cause = failure is not None and after.phase is Phase.RESTARTING
    # Whoever watches the job hears of a full disk from here: records wait until there is room.
    turned = (before.storage_trouble is None) is not (after.storage_trouble is None)
    if before.phase is after.phase and not (found_cause or started_anew or turned):
        return ()
    return (_change(before, after.phase, after.generation, after.message, failure),)


def _costs(before: Status, after: Status) -> tuple[RestartCost, ...]:
    known = {cost.generation for cost in before.ledger.restarts if cost.over}
    return tuple(c for c in after.ledger.restarts if c.over and c.generation not in known)


def _cause(failure: Failure | None) -> str:
    return failure.message if failure else "saved to go on in another generation"


def _change(
    before: Status, after: Phase, generation: int, message: str, failure: Failure | None = None
) -> StateChange:
    return StateChange(before.phase, after, generation, message, failure)


def sentence(change: Change) -> str:
    """Return a change in one line for the controller's log."""
    where = f"generation {change.generation}: "
    if isinstance(change, RestartCost):
        return f"{where}its end ({change.reason}) cost {change.lost.total:.1f} s"
    if isinstance(change, WorkerChange):
        where += f"worker {change.index}: "
    why = f": {change.message}" if change.message else ""
    return f"{where}{change.before.value.lower()} to {change.after.value.lower()}{why}"
