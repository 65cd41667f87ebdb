"""The arithmetic of the control plane's benchmark, and the journal that its pods are."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.control_plane.figures import Delays, Told, bound, rates
from benchmarks.control_plane.journal import NAME, Born, Gone, JournalPods, Tail
from benchmarks.control_plane.processes import Metrics
from benchmarks.rates import percentile
from controller.render import PodSettings, render
from tests.contracts.jobs import a_job


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.99, 5),
        ([3.0, 1.0, 2.0], 0.5, 2),
        (range(1, 101), 0.99, 99),
        (range(1, 101), 1, 100),
        (range(1, 1001), 0.5, 500),
    ],
)
def test_a_percentile_is_one_of_the_values(
    values: list[float], share: float, expected: float
) -> None:
    assert percentile(values, share) == expected


def test_delays_are_told_in_milliseconds() -> None:
    assert Delays.of([0.001, 0.002, 0.5]) == Delays(3, p50_ms=2, p99_ms=500, most_ms=500)


def test_rates_are_those_of_whole_blocks() -> None:
    # Two in the first second, two in the next four, and one that fills no block.
    found = rates([100.5, 101, 103, 105, 106], 100, block=2)
    assert (found.least, found.greatest) == (0.5, 2)


def test_what_is_left_out_and_what_comes_twice_is_counted_by_watcher() -> None:
    whole = [(0.0, 0.1, 4), (1.0, 1.1, 5)]
    gap = [(0.0, 0.1, 4), (2.0, 2.1, 6)]
    again = [(0.0, 0.1, 4), (0.0, 0.3, 4)]
    told = Told.of([whole, gap, again, []], seconds=3)
    assert (told.events, told.per_s, told.left_out, told.twice) == (6, 2, 1, 1)
    assert told.delay.most_ms == pytest.approx(300)


@pytest.mark.parametrize(
    ("after", "expected"),
    [({1.0: 1, 2.0: 1, 4.0: 1}, 0), ({1.0: 100, 2.0: 101, 4.0: 101}, 2), ({1.0: 1, 4.0: 9}, 4)],
)
def test_the_bound_is_of_what_was_counted_since(after: dict[float, float], expected: float) -> None:
    assert bound({1.0: 1, 2.0: 1, 4.0: 1}, after, 0.99 if expected == 4 else 1) == expected


def test_metrics_are_read_by_name_and_label() -> None:
    text = """# HELP jobs x
jobs{namespace="a",phase="Running"} 2.0
jobs{namespace="b",phase="Running"} 3.0
jobs{namespace="b",phase="Failed"} 5.0
jobs_seconds_bucket{le="0.5"} 7.0
jobs_seconds_bucket{le="+Inf"} 9.0
agents 11.0
"""
    metrics = Metrics(text)
    assert metrics.total("jobs") == 10
    assert metrics.total("jobs", phase="Running") == 5
    assert metrics.total("agents") == 11
    assert metrics.buckets("jobs_seconds") == {0.5: 7, float("inf"): 9}


async def test_pods_are_found_again_in_their_journal(tmp_path: Path) -> None:
    settings = PodSettings("unix:/nowhere", "/storage")
    pods, tail, job = JournalPods(tmp_path), Tail(tmp_path / NAME), a_job()
    for index in (1, 0, 1):
        await pods.apply(job, render(job, index, settings))
    first, second = tail.read()
    assert isinstance(first, Born)
    assert isinstance(second, Born)
    assert (first.index, second.index) == (1, 0)
    assert await JournalPods(tmp_path).pods(job) == (second.seen(), first.seen())
    await pods.delete(job, first.name, 0)
    assert list(tail.read()) == [Gone(first.uid)]
    assert await JournalPods(tmp_path).pods(job) == (second.seen(),)
    assert await pods.pods(a_job("other")) == ()
