"""What the agents must be told so that they do what the status says. Pure and level-triggered."""

from __future__ import annotations

from controller import evaluator
from controller.model import (
    EVALUATOR,
    Job,
    MemberSeen,
    Order,
    ReleaseOrder,
    Seen,
    StartOrder,
    StopOrder,
)
from controller.scene import Scene


def orders(scene: Scene) -> tuple[Order, ...]:
    """Return the orders of a job that is not final, for the agents that are connected."""
    connected = (agent for agent in scene.seen.members if agent.connected)
    found = (_order(scene, agent) for agent in connected)
    return tuple(order for order in found if order is not None)


def released(job: Job, seen: Seen) -> tuple[Order, ...]:
    """Return the orders of a final job: everybody stops and leaves."""
    found: list[Order] = []
    for agent in seen.members:
        if agent.connected and agent.running:
            found.append(_stop(job, agent.index, agent.running))
        if agent.connected:
            found.append(ReleaseOrder(agent.index))
    return tuple(found)


def _order(scene: Scene, agent: MemberSeen) -> Order | None:
    """Return what an agent must be told, None if it does what it should."""
    job, status, index = scene.job, scene.job.status, agent.index
    if index == EVALUATOR:
        return evaluator.order(job, agent)
    member = not status.generation_ended and index in status.members
    if agent.running and not (member and agent.running == status.generation):
        return _stop(job, index, agent.running)
    if not member:
        surplus = index >= job.spec.workers or job.deleting is not None
        return ReleaseOrder(index) if surplus else None
    place = scene.looks[index]
    replaced = place.lost and not place.worker.pod
    if place.exited is not None or place.done or replaced:
        return None
    if scene.bad or job.deleting is not None:
        # Also to a member that runs nothing: a start may be on its way to it.
        return _stop(job, index, status.generation)
    if status.stopping:
        return _stop(job, index, status.generation, save=True)
    return None if agent.running else _start(scene, index)


def _start(scene: Scene, index: int) -> Order | None:
    status = scene.job.status
    if any(m.exited or m.done for m in scene.members):
        return None  # The group is not complete any more.
    return StartOrder(index, status.generation, status.addresses, status.members.index(index))


def _stop(job: Job, index: int, generation: int, *, save: bool = False) -> StopOrder:
    return StopOrder(index, generation, save=save, grace_s=job.spec.grace_s)
