"""A controller that slept, or whose clock was set, begins to listen anew."""

from __future__ import annotations

import asyncio

import pytest

from controller.wakefulness import Wake, Wakefulness
from tests.builders import T0, at


class Clocks:
    """A clock on the wall and a steady one, both set by the test."""

    def __init__(self) -> None:
        self.now = T0
        self.steady_s = 100.0

    def wake(self) -> Wake:
        return Wake(lambda: self.now, lambda: self.steady_s)


@pytest.mark.parametrize(
    ("moved_s", "passed_s", "awake"),
    [
        pytest.param(0, 0, True, id="no time has passed"),
        pytest.param(1, 1, True, id="a second has passed"),
        pytest.param(3, 3, True, id="late, as on a busy machine"),
        pytest.param(3.1, 3.1, False, id="stopped"),
        pytest.param(3600, 0.1, False, id="slept, or the clock was set ahead"),
        pytest.param(-0.1, 1, False, id="the clock was set back"),
        pytest.param(1, 60, False, id="stopped, and the clock was set back"),
        pytest.param(0, 60, False, id="a machine that was paused without its clock"),
    ],
)
def test_a_break_shows_in_either_clock(moved_s: float, passed_s: float, awake: bool) -> None:
    first = Wakefulness.begun(T0, 100.0).looked(at(1), 101.0)
    now = at(1 + moved_s)
    assert first.since == T0
    assert first.looked(now, 101.0 + passed_s).since == (T0 if awake else now)


def test_the_next_break_is_counted_from_the_look_that_found_the_last() -> None:
    look = Wakefulness.begun(T0, 100.0).looked(at(3600), 101.0)
    assert look.looked(at(3602), 103.0).since == at(3600)
    assert look.looked(at(3602), 103.0).looked(at(3606), 107.0).since == at(3606)


def test_who_looks_after_a_break_finds_it_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clocks = Clocks()
    wake = clocks.wake()
    clocks.now = at(3600)
    assert wake.look() == Wakefulness(at(3600), at(3600), 100.0)
    assert wake.look().since == at(3600)
    (said,) = caplog.messages
    assert said.startswith("the clock moved by 3600.0 s in 0.0 s without a look at it")


async def test_a_quiet_controller_looks_by_itself() -> None:
    clocks = Clocks()
    wake = clocks.wake()
    keeping = asyncio.create_task(wake.keep(every_s=0))
    for second in range(1, 61):
        clocks.now, clocks.steady_s = at(second), 100.0 + second
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    keeping.cancel()
    assert wake.look().since == T0
