"""What the training benchmark writes of its pairs."""

from __future__ import annotations

import pytest

from benchmarks.pairs import Comparison
from benchmarks.rates import Block, Rate
from benchmarks.training.choices import CHOICES, PAIRS, Pair, Setting, pair_called
from benchmarks.training.table import Outcome, lines

SETTING = Setting("lenet5", batch=64, steps_per_execution=1)


def block(ours: float, theirs: float) -> Block:
    """Return a block with these rates, in which a step took 30 and 40 CPU milliseconds."""
    return Block(
        Rate(ours, 1, 1, {"trainers": 25.0, "controller": 5.0}),
        Rate(theirs, 1, 1, {"trainers": 40.0}),
    )


FOUND = Comparison(
    [block(3000, 1500), block(3000, 1000), block(2000, 2000)],
    seconds=60,
    checkpoints=(1, 0),
    memory_mib=({"trainers": 500.0, "agents": 100.0, "controller": 80.0}, {"trainers": 900.0}),
    cores_elsewhere=0.1,
)


@pytest.mark.parametrize(("bar", "expected"), [(None, None), (2.0, True), (2.1, False)])
def test_a_bar_is_held_against_the_median(bar: float | None, expected: bool | None) -> None:
    assert Outcome(Pair("task", "bare", bar), FOUND).good_enough is expected


def test_a_pair_that_failed_reaches_no_bar_and_misses_none() -> None:
    assert Outcome(Pair("task", "bare", 0.97), None, "it hangs").good_enough is None


def test_a_row_has_the_ratio_its_bar_and_both_sides() -> None:
    *_, row = lines([Outcome(Pair("task", "bare", 2.0), FOUND)], SETTING)
    assert row == (
        "| a task, 2 workers | bare multi-step loop, 2 processes | 2.00 (1.00 to 3.00) | 2, met "
        "| 3,000 / 1,500 | 15.00 / 20.00 | 300 / 450 |"
    )


def test_a_peer_that_cannot_be_had_is_said_in_its_row() -> None:
    *_, row = lines([Outcome(Pair("task", "ray"), None, "pip says:\nno | network\n")], SETTING)
    assert row == (
        "| a task, 2 workers | Ray Train, bare loop, 2 workers | no / network |  |  |  |  |"
    )


def test_every_row_has_the_columns_of_the_head() -> None:
    outcomes = [Outcome(PAIRS[0], FOUND), Outcome(PAIRS[1], None)]
    assert len({line.count("|") for line in lines(outcomes, SETTING)}) == 1


@pytest.mark.parametrize(
    ("name", "batch"), [("task", 128), ("task-1", 64), ("keras-1", 64), ("keras-2", 128)]
)
def test_each_core_has_the_same_share_of_a_step(name: str, batch: int) -> None:
    assert CHOICES[name].batch(SETTING) == batch


def test_pairs_are_called_by_their_sides() -> None:
    assert [pair_called(pair.name) for pair in PAIRS] == list(PAIRS)
    assert pair_called("ray/bare") == Pair("ray", "bare")
    with pytest.raises(ValueError, match="'horovod' is none of task, "):
        pair_called("task/horovod")
