"""Keeps the books of a job: which part of its time a moment belongs to. Pure."""

from __future__ import annotations

from dataclasses import replace

from controller.ledger import Ledger, Part, RestartCost
from controller.model import MemberSeen, Phase, Stage, Status
from controller.scene import Scene

# The reason of a generation that was asked to save and leave so that another one could follow.
PLANNED = "Planned"

_BY_STAGE = {
    Stage.STARTING: Part.START,
    Stage.RESTORING: Part.RESTORE,
    Stage.RECOMPUTING: Part.RECOMPUTE,
    Stage.TRAINING: Part.USEFUL,
    Stage.EVALUATING: Part.OTHER,
    Stage.FINISHING: Part.OTHER,
}
_ENDING = (Phase.RESTARTING, Phase.SUSPENDING)


def kept(scene: Scene) -> Status:
    """Return the status that was decided, with its books brought up to date."""
    status, now = scene.job.status, scene.now
    ledger = _interrupted(scene, status.ledger)
    ledger = _counted(scene, ledger.turned(_part(scene), now))
    return status if ledger == status.ledger else replace(status, ledger=ledger)


def _interrupted(scene: Scene, ledger: Ledger) -> Ledger:
    """Open the books of a restart as soon as one is to come; its cause may be found later."""
    status = scene.job.status
    ended = _newest_ended(scene)
    failure = status.last_failure
    if failure is not None and failure.generation != ended:
        failure = None
    reason = failure.reason if failure else PLANNED
    newest = ledger.restarts[-1] if ledger.restarts else None
    if ended == 0 or status.phase.final or (newest and newest.generation > ended):
        return ledger
    if newest is None or newest.generation < ended:
        ledger = replace(ledger, furthest_step=_furthest(scene, ended))
        fault_at = failure.time if failure else None
        return ledger.interrupted(RestartCost(ended, reason), fault_at, scene.now)
    if failure and ledger.paid and ledger.paid.reason != reason:
        return ledger.with_paid(replace(ledger.paid, reason=reason))
    return ledger


def _newest_ended(scene: Scene) -> int:
    """Return the newest generation that another one follows, or is to follow."""
    status = scene.job.status
    over = status.generation_ended or status.phase in _ENDING or status.stopping
    last = scene.job.spec.cancel or scene.job.deleting is not None
    return status.generation if over and not last else max(0, status.generation - 1)


def _furthest(scene: Scene, generation: int) -> int:
    status = scene.job.status
    running = [m.step for m in scene.seen.members if m.running == generation]
    exits = [m.exited for m in scene.seen.members if m.exited is not None]
    ended = [e.step for e in exits if e.generation == generation]
    return max(status.ledger.furthest_step, status.progress.step, *running, *ended)


def _part(scene: Scene) -> Part | None:
    """Return what this moment is spent on; None while the clock stands."""
    status = scene.job.status
    if status.started is None or status.phase.final or status.phase is Phase.SUSPENDED:
        return None
    if status.generation_ended:
        return Part.STOP if status.phase is Phase.SUSPENDING else Part.START
    if scene.chief.done or scene.job.spec.cancel or scene.job.deleting is not None:
        return Part.OTHER
    if status.phase in _ENDING or status.stopping:
        return Part.STOP
    chief = _chief(scene)
    if chief is not None:
        return _BY_STAGE[chief.stage]
    # Just ordered to start; or its agent has not called since this controller began.
    return Part.START if status.phase is Phase.STARTING else status.ledger.part


def _chief(scene: Scene) -> MemberSeen | None:
    """Return the chief as its agent reports the newest generation."""
    status = scene.job.status
    index, generation = status.members[0], status.generation
    found = (m for m in scene.seen.members if m.index == index and m.running == generation)
    return next(found, None)


def _counted(scene: Scene, ledger: Ledger) -> Ledger:
    """Note how many steps are made again, once it is known where the generation began."""
    if scene.job.status.generation_ended or not ledger.restarts:
        return ledger
    chief, newest = _chief(scene), ledger.restarts[-1]
    began = chief is not None and chief.stage not in (Stage.STARTING, Stage.RESTORING)
    if chief is None or not began or newest.generation != scene.job.status.generation - 1:
        return ledger
    # A checkpoint may be of later steps than any that was told of.
    furthest = max(ledger.furthest_step, chief.base_step)
    cost = replace(newest, steps=furthest - chief.base_step)
    return replace(ledger.with_paid(cost), furthest_step=furthest)
