"""A pass takes as many times longer as a job has more workers, not the square of that."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from controller.model import Status
from controller.plan import plan
from controller.rendezvous import rendezvous
from tests.builders import T0, agent, idle, job, running, seen


def calls(of: Callable[[], object]) -> int:
    """Count the Python functions that are called."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        of()
    finally:
        sys.setprofile(before)
    return count


def passed(workers: int, *, runs: bool, generation: int) -> int:
    """Count the calls of a pass over a job whose agents run that generation."""
    status: Status = running(members=tuple(range(workers))) if runs else idle()
    large = job(status, workers=workers, min_workers=workers)
    world = seen(*(agent(index, generation) for index in range(workers)))
    return calls(lambda: (rendezvous(large, world, T0), plan(large, world.pods, T0)))


@pytest.mark.parametrize(
    ("runs", "generation"),
    [
        pytest.param(False, 0, id="it is about to start"),
        pytest.param(True, 0, id="starts are on their way"),
        pytest.param(True, 1, id="all train"),
    ],
)
def test_four_times_the_workers_take_four_times_the_calls(runs: bool, generation: int) -> None:
    small = passed(100, runs=runs, generation=generation)
    assert passed(400, runs=runs, generation=generation) < 5 * small
