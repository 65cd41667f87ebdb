"""The arithmetic of the benchmark whose two sides take turns."""

import pytest

from benchmarks.turns import active, at_time

TURNS = [(0.0, 10.0), (20.0, 30.0), (40.0, 50.0)]


@pytest.mark.parametrize(
    ("at", "expected"), [(0, 0), (4, 4), (10, 10), (15, 10), (25, 15), (30, 20), (60, 30)]
)
def test_only_the_time_in_turns_counts(at: float, expected: float) -> None:
    assert active(at, TURNS) == expected


@pytest.mark.parametrize(
    ("at", "expected"), [(2, 20), (4, 40), (6, 80), (8, 120), (10, 160), (1, 10)]
)
def test_steps_between_two_stamps_are_even(at: float, expected: float) -> None:
    assert at_time(at, [(2, 20), (4, 40), (8, 120)]) == expected


def test_one_stamp_gives_no_rate() -> None:
    with pytest.raises(ValueError, match="two points are needed, not 1"):
        at_time(1, [(0, 0)])
