"""The worker that looks at checkpoints beside the training. Pure.

It runs while a generation does, and belongs to none: whatever becomes of it, the training neither
waits for it nor ends with it. Where its trainer has ended by itself it is left alone until the
next generation, so that a program that cannot be evaluated costs one attempt each.
"""

from __future__ import annotations

from controller.model import (
    EVALUATOR,
    Job,
    MemberSeen,
    Order,
    Phase,
    ReleaseOrder,
    Seen,
    StartOrder,
    StopOrder,
)


def wanted(job: Job) -> bool:
    """Tell whether there is to be a pod for it: not before the training needs one."""
    spec, status = job.spec, job.status
    leaving = spec.suspend or spec.cancel or job.deleting is not None
    return spec.evaluator and status.generation > 0 and not leaving and not status.phase.final


def order(job: Job, agent: MemberSeen) -> Order | None:
    """Return what its agent must be told, None if it does what it should."""
    status = job.status
    if agent.running and (status.generation_ended or agent.running != status.generation):
        return StopOrder(EVALUATOR, agent.running, save=False, grace_s=job.spec.grace_s)
    if not wanted(job):
        return ReleaseOrder(EVALUATOR)
    trains = status.phase is Phase.RUNNING and not status.stopping
    tried = agent.exited is not None and agent.exited.generation == status.generation
    if agent.running or tried or not trains:
        return None
    return StartOrder(EVALUATOR, status.generation, (), -1)


def trouble(job: Job, seen: Seen) -> str:
    """Return why it does not work in the newest generation, "" as far as it does."""
    generation = job.status.generation
    exits = (agent.exited for agent in seen.members if agent.index == EVALUATOR)
    failed = (e.failure.message for e in exits if e and e.failure and e.generation == generation)
    refused = (pod.why for pod in seen.refused if pod.index == EVALUATOR)
    return next(failed, "") or next(refused, "")
