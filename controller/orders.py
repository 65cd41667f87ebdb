"""What the agents must be told so that they do what the status says. Pure and level-triggered."""

from __future__ import annotations

from dataclasses import dataclass

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
    group = _group(scene)
    connected = (agent for agent in scene.seen.members if agent.connected)
    found = (_order(scene, group, agent) for agent in connected)
    return tuple(order for order in found if order is not None)


@dataclass(frozen=True, slots=True)
class _Group:
    """The newest generation while it may be running: its members' positions by index, whether it
    cannot go on, and whether all of it is there. Looked at once for all of its orders."""

    positions: dict[int, int]
    bad: bool = False
    complete: bool = False


def _group(scene: Scene) -> _Group:
    if scene.job.status.generation_ended:
        return _Group({})
    positions = {index: n for n, index in enumerate(scene.job.status.members)}
    complete = not any(m.exited or m.done for m in scene.members)
    return _Group(positions, scene.bad, complete)


def released(job: Job, seen: Seen) -> tuple[Order, ...]:
    """Return the orders of a final job: everybody stops and leaves."""
    found: list[Order] = []
    for agent in seen.members:
        if agent.connected and agent.running:
            found.append(_stop(job, agent.index, agent.running))
        if agent.connected:
            found.append(ReleaseOrder(agent.index))
    return tuple(found)


def _order(scene: Scene, group: _Group, agent: MemberSeen) -> Order | None:
    """Return what an agent must be told, None if it does what it should."""
    job, status, index = scene.job, scene.job.status, agent.index
    if index == EVALUATOR:
        return evaluator.order(job, agent)
    member = index in group.positions
    if agent.running and not (member and agent.running == status.generation):
        return _stop(job, index, agent.running)
    if not member:
        surplus = index >= job.spec.workers or job.deleting is not None
        return ReleaseOrder(index) if surplus else None
    place = scene.looks[index]
    replaced = place.lost and not place.worker.pod
    if place.exited is not None or place.done or replaced:
        return None
    if group.bad or job.deleting is not None:
        # Also to a member that runs nothing: a start may be on its way to it.
        return _stop(job, index, status.generation)
    if status.stopping:
        return _stop(job, index, status.generation, save=True)
    if agent.running or not group.complete:
        return None
    return StartOrder(index, status.generation, status.addresses, group.positions[index])


def _stop(job: Job, index: int, generation: int, *, save: bool = False) -> StopOrder:
    return StopOrder(index, generation, save=save, grace_s=job.spec.grace_s)
