"""The arithmetic of benchmarks whose sides take turns: rates, spreads, shares of a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from benchmarks.rates import Block, Rate, Spread, a_worker, cpu_ms_for
from benchmarks.sides.pinning import place


@dataclass(frozen=True)
class Even:
    """A side that makes ten steps in each turn of two seconds, with one second of CPU."""

    def steps(self, first: int, end: int) -> float:
        return 10.0 * (end - first)

    def seconds(self, first: int, end: int) -> float:
        return 2.0 * (end - first)

    def cpu(self, first: int, end: int) -> Mapping[str, float]:
        return {"trainers": 0.75 * (end - first), "controller": 0.25 * (end - first)}


def rate(examples_per_s: float, cpu_ms: float) -> Rate:
    return Rate(examples_per_s, steps=1, seconds=1, cpu_ms_a_step={"trainers": cpu_ms})


@pytest.mark.parametrize("count", [1, 3])
def test_a_rate_is_that_of_its_turns(count: int) -> None:
    found = Rate.of(Even(), 1, count, batch=64)
    assert found.examples_per_s == 320
    assert (found.steps, found.seconds) == (10 * count, 2 * count)
    assert found.cpu_ms_a_step == {"trainers": 75, "controller": 25}
    assert found.cpu_ms == 100


def test_ratios_are_ours_by_theirs() -> None:
    block = Block(rate(300, 20), rate(200, 50))
    assert block.rate_ratio == 1.5
    assert block.cpu_ratio == 0.4


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], (3, 3, 3)), ([4.0, 1.0, 2.0], (2, 1, 4)), ([1.0, 2.0, 3.0, 9.0], (2.5, 1, 9))],
)
def test_a_spread_has_the_median_between_its_ends(
    values: list[float], expected: tuple[float, float, float]
) -> None:
    found = Spread.of(iter(values))
    assert (found.median, found.least, found.greatest) == expected


def test_a_spread_is_written_with_its_ends() -> None:
    assert Spread(1.006, 0.9, 1.1).text(2) == "1.01 (0.90 to 1.10)"


@pytest.mark.parametrize(
    ("by_kind", "workers", "expected"),
    [
        ({"trainers": 600.0}, 2, 300),
        ({"trainers": 600.0, "agents": 200.0, "controller": 70.0}, 2, 400),
        ({"trainers": 600.0, "ray": 900.0}, 1, 600),
    ],
)
def test_what_serves_all_workers_is_no_part_of_one(
    by_kind: dict[str, float], workers: int, expected: float
) -> None:
    assert a_worker(by_kind, workers) == expected


@pytest.mark.parametrize(("batch", "expected"), [(64, 20), (128, 10), (32, 40)])
def test_cpu_time_is_that_of_as_many_examples_whatever_a_step_takes(
    batch: int, expected: float
) -> None:
    rates = [rate(1, cpu_ms) for cpu_ms in (10.0, 20.0, 90.0)]
    assert cpu_ms_for(rates, 64, batch=batch) == expected


@pytest.mark.parametrize(
    ("cores", "position", "cores_each", "expected"),
    [
        ([0, 1], 0, 1, [0]),
        ([0, 1], 1, 1, [1]),
        ([0, 1], 2, 1, [0]),
        ([0, 1], 0, 2, [0, 1]),
        ([2, 5, 7, 9], 1, 2, [7, 9]),
        # A process that has its core already.
        ([1], 1, 1, [1]),
        ([0], 0, 2, [0]),
    ],
)
def test_workers_have_cores_of_their_own_while_there_are_some(
    cores: list[int], position: int, cores_each: int, expected: list[int]
) -> None:
    assert place(cores, position, cores_each) == expected
