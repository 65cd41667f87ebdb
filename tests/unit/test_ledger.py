"""The books of a job: every second is in them once, and under what it was spent on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.ledger import Ledger, Lost, Part, RestartCost
from tests.builders import T0, at

spans = st.floats(0, 1e5)
parts = st.sampled_from([p for p in Part if p is not Part.DETECTION])
turns = st.builds(lambda part: lambda ledger, now: ledger.turned(part, now), parts)
faults = st.builds(
    lambda ago: (
        lambda ledger, now: ledger.interrupted(
            RestartCost(len(ledger.restarts) + 1, "X"), at((now - T0).total_seconds() - ago), now
        )
    ),
    st.floats(-10, 100),
)


@given(st.lists(st.tuples(spans, turns | faults), max_size=30))
def test_every_second_is_booked_once(life: list[tuple[float, object]]) -> None:
    ledger, seconds = Ledger().turned(Part.OTHER, T0), 0.0
    for span, event in life:
        seconds += span
        ledger = event(ledger, at(seconds))  # type: ignore[operator]
        booked = ledger.booked(at(seconds))
        assert booked.total == pytest.approx(seconds, abs=1e-3)
        assert min(booked.useful, booked.other, *lost_parts(booked.lost)) >= 0
        if len(ledger.restarts) < 10:
            costs = sum(cost.lost.total for cost in booked.restarts)
            assert costs == pytest.approx(booked.lost.total, abs=1e-3)
        assert len(ledger.restarts) <= 10
        assert booked.booked(at(seconds)) == booked
    assert 0 <= ledger.goodput(at(seconds)) <= 1


def lost_parts(lost: Lost) -> list[float]:
    return [getattr(lost, name) for name in Lost.__dataclass_fields__]


def life(*moments: tuple[float, Part | None]) -> Ledger:
    ledger = Ledger()
    for seconds, part in moments:
        ledger = ledger.turned(part, at(seconds))
    return ledger


TRAINING = life((0, Part.START), (2, Part.USEFUL))
COST = RestartCost(1, "TrainerKilled")


def test_the_first_start_is_no_cost_of_a_restart() -> None:
    assert (TRAINING.other, TRAINING.lost) == (2.0, Lost())


def test_a_restart_is_split_into_its_parts() -> None:
    ledger = TRAINING.interrupted(COST, fault_at=at(10), now=at(11))
    for seconds, part in (
        (11, Part.STOP),
        (13, Part.START),
        (16, Part.RESTORE),
        (20, Part.RECOMPUTE),
        (25, Part.USEFUL),
    ):
        ledger = ledger.turned(part, at(seconds))
    assert ledger.useful == 8.0
    assert ledger.lost == Lost(detection=1, stop=2, start=3, restore=4, recompute=5)
    (cost,) = ledger.restarts
    assert cost == replace(COST, lost=ledger.lost, over=True)
    assert ledger.goodput(at(40)) == pytest.approx((8 + 15) / 40)


@pytest.mark.parametrize(
    ("fault_at", "detection"),
    [
        pytest.param(None, 0, id="unknown"),
        pytest.param(at(1), 9, id="before this part began"),
        pytest.param(at(99), 0, id="a clock that is ahead"),
    ],
)
def test_a_fault_lies_within_the_part_that_ran(fault_at: datetime | None, detection: int) -> None:
    ledger = TRAINING.interrupted(COST, fault_at, now=at(11)).turned(Part.STOP, at(11))
    assert ledger.lost.detection == detection
    assert ledger.booked(at(11)).total == 11


def test_a_restart_during_a_restart_is_another_one() -> None:
    ledger = TRAINING.interrupted(COST, None, at(10)).turned(Part.START, at(10))
    ledger = ledger.interrupted(replace(COST, generation=2), None, at(13))
    ledger = ledger.turned(Part.START, at(13)).turned(Part.USEFUL, at(14))
    assert [(c.generation, c.lost.total, c.over) for c in ledger.restarts] == [
        (1, 3.0, True),
        (2, 1.0, True),
    ]


def test_the_clock_stands_while_a_job_is_held() -> None:
    ledger = TRAINING.interrupted(COST, None, at(10)).turned(Part.STOP, at(10))
    ledger = ledger.turned(None, at(12)).turned(Part.START, at(100)).turned(Part.USEFUL, at(103))
    assert ledger.lost == Lost(stop=2, start=3)
    assert ledger.total == 15
