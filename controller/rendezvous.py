"""Which generation of a job runs, with whom, and what follows its end. Pure, level-triggered.

While the newest generation may be running, `generation.watched` looks for its end. Once no
member can be running it any more, `_next` decides what follows. At most one generation runs,
because the second is never reached before the first has seen the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller import accounting, failures, generation, orders, wording
from controller.group import Look
from controller.model import EVALUATOR, Failure, Job, Order, Phase, Reason, Seen, Status
from controller.scene import Scene, active_deadline, scene_of


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from what is seen.

    The status is stored before any order is sent. Orders are safe to repeat, and are repeated
    until they are seen to be obeyed. `wake_at`: look again then, even if nothing changes.
    """

    status: Status
    orders: tuple[Order, ...] = ()
    wake_at: datetime | None = None


def rendezvous(job: Job, seen: Seen, now: datetime) -> Decision:
    """Decide about the generations of a job from what is seen of its workers."""
    if job.status.phase.final:
        return Decision(job.status, orders.released(job, seen))
    scene = scene_of(job, seen, now)
    if not scene.job.status.generation_ended:
        scene = generation.watched(scene)
    status = scene.job.status
    if status.generation_ended and not status.phase.final and job.deleting is None:
        # Seen anew: those who were members are now workers like any other.
        scene = _next(scene_of(scene.job, seen, now))
    status = accounting.kept(scene)
    if status.phase.final:
        return Decision(status, orders.released(scene.job, seen))
    return Decision(status, orders.orders(scene), _wake_at(scene))


def _next(scene: Scene) -> Scene:
    """Decide what follows a generation that has ended, or comes before the first."""
    spec, now = scene.job.spec, scene.now
    if spec.cancel:
        scene = scene.to(Phase.CANCELLED, "cancelled by the user")
        return scene.with_status(finished=now, restart_after=None)
    if scene.overdue:
        limit = spec.active_deadline_s
        message = f"not complete {limit} s after its first start (activeDeadlineSeconds)"
        return _failed(scene, Reason.ACTIVE_DEADLINE, message)
    if spec.suspend and scene.seen.pods:
        return scene.to(Phase.SUSPENDING, "waiting for the workers to leave")
    if spec.suspend:
        return scene.to(Phase.SUSPENDED, "suspended by the user")
    if scene.job.status.phase in (Phase.SUSPENDING, Phase.SUSPENDED):
        scene = scene.to(Phase.PENDING, "")
    group = _group(scene)
    if group and not _backs_off(scene):
        return _started(scene, group)
    missing = tuple(x for x in scene.wanted if not _free(x))
    if missing and now >= _start_deadline(scene):
        names = wording.absent(missing, most=len(missing))
        message = f"not all workers came within {spec.start_deadline_s} s: {names}"
        return _failed(scene, Reason.START_DEADLINE, message, worker=missing[0].index)
    return scene.with_status(message=_held_up(scene, missing))


def _failed(scene: Scene, reason: str, message: str, *, worker: int = -1) -> Scene:
    status = scene.job.status
    failure = Failure(reason, message, worker, generation=status.generation, time=scene.now)
    status = failures.failed(status, failure, scene.now)
    return replace(scene, job=replace(scene.job, status=status))


def _free(worker: Look) -> bool:
    agent = worker.agent
    return worker.usable and agent is not None and agent.running == 0 and agent.address != ""


def _group(scene: Scene) -> tuple[int, ...]:
    """Return the members of the next generation, () while it cannot start."""
    spec, status = scene.job.spec, scene.job.status
    present = {p.uid for p in scene.seen.pods}
    group = (m for m in scene.seen.members if m.index != EVALUATOR)
    if any(m.running for m in group if m.connected and m.pod_uid in present):
        return ()  # Somebody still runs what has ended for all others; it is being stopped.
    free = tuple(x.index for x in scene.wanted if _free(x))
    if len(free) == spec.workers:
        return free
    if not free or len(free) < min(spec.min_workers, spec.workers):
        return ()
    shrinks = status.phase is Phase.RESTARTING and scene.now >= _shrink_at(scene)
    return free if shrinks or scene.now >= _start_deadline(scene) else ()


def _waits_since(scene: Scene) -> datetime:
    """Return since when workers are waited for; a back-off is no waiting."""
    moments = [scene.phase_since, scene.seen.since, scene.job.status.restart_after]
    return max(m for m in moments if m is not None)


def _shrink_at(scene: Scene) -> datetime:
    return _waits_since(scene) + timedelta(seconds=scene.job.spec.elastic_wait_s)


def _start_deadline(scene: Scene) -> datetime:
    return _waits_since(scene) + timedelta(seconds=scene.job.spec.start_deadline_s)


def _backs_off(scene: Scene) -> bool:
    until = scene.job.status.restart_after
    return until is not None and scene.now < until


def _started(scene: Scene, group: tuple[int, ...]) -> Scene:
    """Give the next generation its number and members; the orders follow from that."""
    status = scene.job.status
    agents = (scene.looks[index].agent for index in group)
    scene = scene.with_status(
        phase=Phase.STARTING,
        phase_since=scene.now,
        generation=status.generation + 1,
        members=group,
        addresses=tuple(agent.address for agent in agents if agent is not None),
        generation_ended=False,
        stopping=False,
        started=status.started or scene.now,
        restart_after=None,
    )
    scene = scene_of(scene.job, scene.seen, scene.now)
    return scene.with_status(message=generation.activity(scene))


def _held_up(scene: Scene, missing: tuple[Look, ...]) -> str:
    status = scene.job.status
    parts = []
    if status.phase is Phase.RESTARTING:
        wait = failures.backoff(status)
        when = f" in {wording.seconds(wait)}" if _backs_off(scene) else ""
        failure = status.last_failure
        ended = failure if failure and failure.generation == status.generation else None
        parts.append(f"restarting{when}{wording.after(ended)}")
    if missing:
        parts.append(wording.waiting(missing))
    return "; ".join(parts) or "waiting for a former trainer to end"


def _wake_at(scene: Scene) -> datetime | None:
    """Return when time alone changes something."""
    status, now = scene.job.status, scene.now
    moments = [x.checks_at for x in scene.looks.values()]
    moments.append(active_deadline(scene.job))
    restarting = status.phase is Phase.RESTARTING
    if status.generation_ended and (restarting or status.phase is Phase.PENDING):
        moments += [status.restart_after, _start_deadline(scene)]
        moments += [_shrink_at(scene)] if restarting else []
    if not status.generation_ended:
        moments.append(scene.hung_at)
        moments += [generation.looked_into_until(scene)] if restarting else []
        # Steps and progress alone cause no pass; this timer is what takes them over.
        moments += [now + generation.PROGRESS_EVERY] if status.phase is Phase.RUNNING else []
    return min((m for m in moments if m is not None and m > now), default=None)
