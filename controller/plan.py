"""Which pods of a job there should be, and when the job itself is to go. Pure, level-triggered.

Runs after rendezvous in the same pass and on the same pods, so that `Status.workers` is up to
date: a worker LOST with a pod named there has a pod that must go.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller import evaluator
from controller.backoff import doubled
from controller.model import EVALUATOR, Job, PodPhase, PodSeen, RefusedSeen, Status, WorkerState

# A pod that fails at once is replaced no sooner, so that a worker that cannot even begin costs
# a process every few seconds, not a hundred a second.
SHORTEST_POD_LIFE = timedelta(seconds=3)
# A quota may be free again soon, or never; the wait for a refused pod doubles with each try.
FIRST_REFUSAL_WAIT_S = 0.25
LONGEST_REFUSAL_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the shell must do, in this order; the status is stored before anything is touched.

    delete: names of pods. kill: those of them that get no grace, because nobody is in them who
    could save anything. create: worker indexes. wake_at: look again then, even if nothing
    changes. forget: no pod is left; remove the job's files, then the job.
    """

    status: Status
    delete: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    create: tuple[int, ...] = ()
    wake_at: datetime | None = None
    forget: bool = False


def plan(
    job: Job, pods: tuple[PodSeen, ...], now: datetime, *, refused: tuple[RefusedSeen, ...] = ()
) -> Plan:
    """Decide about the pods of a job whose status rendezvous has just brought up to date."""
    status = job.status
    pods = tuple(sorted(pods, key=lambda p: p.index))
    expires_at = _expires_at(job)
    if job.deleting is not None or (expires_at is not None and now >= expires_at):
        return Plan(status, _names(pods), forget=not pods)
    if status.phase.final:
        return Plan(status, _names(pods), wake_at=expires_at)
    if job.spec.suspend and status.generation_ended:
        return Plan(status, _names(pods))
    return _kept_up(job, pods, refused, now)


def _kept_up(
    job: Job, pods: tuple[PodSeen, ...], refused: tuple[RefusedSeen, ...], now: datetime
) -> Plan:
    """Replace what was lost, create what is missing, remove what is too much."""
    broken = _broken(job.status, pods)
    killed = [p for p in broken if now >= _replaceable_at(p, now)]
    surplus = [p for p in _surplus(job, pods) if p not in killed]
    delete = sorted([*killed, *surplus], key=lambda p: p.index)
    missing = _missing(job, pods)
    held = {r.index: _asked_again_at(r) for r in refused if r.index in missing}
    held = {index: at for index, at in held.items() if now < at}
    waits = [*held.values(), *(_replaceable_at(p, now) for p in broken if p not in killed)]
    return Plan(
        job.status,
        delete=_names(delete),
        kill=_names(killed),
        create=tuple(i for i in missing if i not in held),
        wake_at=min(waits, default=None),
    )


def _names(pods: tuple[PodSeen, ...] | list[PodSeen]) -> tuple[str, ...]:
    """Return the names of pods that are still to be deleted."""
    return tuple(p.name for p in pods if not p.deleting)


def _members(status: Status) -> frozenset[int]:
    return frozenset(() if status.generation_ended else status.members)


def _done(status: Status) -> frozenset[int]:
    """Return the members that have completed the training while others still end theirs."""
    done = (w.index for w in status.workers if w.state is WorkerState.DONE)
    return _members(status).intersection(done)


def _ended(pod: PodSeen) -> bool:
    return pod.phase in (PodPhase.FAILED, PodPhase.SUCCEEDED)


def _broken(status: Status, pods: tuple[PodSeen, ...]) -> list[PodSeen]:
    """Return the pods that no training can go on in."""
    done = _done(status)
    lost = {w.pod for w in status.workers if w.state is WorkerState.LOST and w.pod}
    return [p for p in pods if p.index not in done and (_ended(p) or p.name in lost)]


def _replaceable_at(pod: PodSeen, now: datetime) -> datetime:
    """Return when a broken pod may be replaced: a silent one at once."""
    return pod.created + SHORTEST_POD_LIFE if _ended(pod) else now


def _asked_again_at(refused: RefusedSeen) -> datetime:
    """Return when the cluster is asked again for a pod that it refused."""
    wait_s = doubled(FIRST_REFUSAL_WAIT_S, refused.times, longest_s=LONGEST_REFUSAL_WAIT_S)
    return refused.at + timedelta(seconds=wait_s)


def _surplus(job: Job, pods: tuple[PodSeen, ...]) -> list[PodSeen]:
    """Return the pods of workers that are not wanted; one that is still a member is left alone."""
    kept = _members(job.status).union(_wanted(job))
    return [p for p in pods if p.index not in kept]


def _wanted(job: Job) -> tuple[int, ...]:
    """Return the workers that there should be while the job goes on."""
    beside = (EVALUATOR,) if evaluator.wanted(job) else ()
    return (*range(job.spec.workers), *beside)


def _missing(job: Job, pods: tuple[PodSeen, ...]) -> tuple[int, ...]:
    if job.spec.suspend or job.spec.cancel:
        return ()
    there = _done(job.status).union(p.index for p in pods)
    return tuple(i for i in _wanted(job) if i not in there)


def _expires_at(job: Job) -> datetime | None:
    """Return when a finished job is to be deleted; None if it is kept or not finished."""
    ttl, finished = job.spec.ttl_after_finished_s, job.status.finished
    if ttl is None or finished is None or not job.status.phase.final:
        return None
    return finished + timedelta(seconds=ttl)
