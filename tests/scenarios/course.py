"""How the small world goes on: time passes, until it rests, until its job ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from tests.scenarios.world import (
    Pass,
    World,
    collectives,
    decide,
    finish,
    heal,
    kubelet,
    reconcile,
    report,
    step,
)


def tick(world: World, seconds: float = 1.0) -> World:
    """Let time pass; agents within reach speak at its end."""
    awake = world.awake
    world = stand_still(world, seconds)
    # The controller looks at its clocks all the time.
    looked = replace(awake, now=world.now, steady_s=world.steady_s)
    return report(replace(world, looked=looked))


def stand_still(world: World, seconds: float) -> World:
    """Let time pass in which the controller does nothing and hears nobody."""
    world = set_clock(world, seconds)
    return replace(world, steady_s=world.steady_s + seconds)


def set_clock(world: World, seconds: float) -> World:
    """Set the clock ahead, or back, while no time passes."""
    return replace(world, now=world.now + timedelta(seconds=seconds))


def stabilize(world: World, note: Callable[[World, Pass], None] | None = None) -> World:
    """Let pods start, agents report and the controller act until nothing changes any more."""
    for _ in range(50):
        before = world
        world, done = reconcile(report(collectives(kubelet(world))))
        if note is not None:
            note(world, done)
        if world == before or world.forgotten:
            return world
    raise AssertionError("the world does not come to rest")


def calm(world: World, act: Callable[[World], World]) -> World:
    """Let the job come to its end in a world without faults; `act` does one pass."""
    world = heal(world)
    for _ in range(60):
        for _ in range(8):
            world = act(report(collectives(kubelet(world))))
        if world.job.status.phase.final:
            return world
        trained = act(report(step(world, 3)))
        world = act(report(finish(trained)))
        if not world.trainers:
            wake_at = decide(world).wake_at
            wait = (wake_at - world.now).total_seconds() if wake_at else 1.0
            world = tick(world, max(wait, 0.1))
    return world
