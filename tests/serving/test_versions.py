"""Which versions are loaded and let go."""

from __future__ import annotations

import pytest

from serving.versions import LAST_RETRY_S, Changes, Seen, State, plan, ready

UP, LOADING, GOING = Seen(State.AVAILABLE), Seen(State.LOADING), Seen(State.UNLOADING)
# Failed at time 100, and is tried again at 101.
BAD = Seen(State.END, "damaged", 1, 100.0)


@pytest.mark.parametrize(
    ("found", "seen", "keep", "now", "wanted"),
    [
        pytest.param({1, 2}, {}, 1, 0, Changes((2,)), id="newest first"),
        pytest.param({9, 10}, {}, 2, 0, Changes((10, 9)), id="by number, not by name"),
        pytest.param({1, 2}, {1: UP}, 1, 0, Changes((2,)), id="old one stays until then"),
        pytest.param({1, 2}, {1: UP, 2: LOADING}, 1, 0, Changes(), id="and while it loads"),
        pytest.param({1, 2}, {1: UP, 2: UP}, 1, 0, Changes((), (1,)), id="old one goes"),
        pytest.param({2}, {1: UP, 2: UP}, 2, 0, Changes((), (1,)), id="removed one goes"),
        pytest.param({1, 2, 3}, {2: UP, 3: UP}, 2, 0, Changes(), id="settled"),
        pytest.param({1, 2}, {1: UP, 2: BAD}, 1, 100, Changes(), id="bad one: old one serves"),
        pytest.param({1, 2}, {2: BAD}, 1, 100, Changes((1,)), id="bad one: the next older"),
        pytest.param({1, 2}, {1: UP, 2: BAD}, 1, 101, Changes((2,)), id="bad one: tried again"),
        pytest.param({1, 2}, {1: BAD, 2: UP}, 1, 101, Changes(), id="old bad one: nobody asks"),
        pytest.param({1, 3}, {1: UP, 2: BAD, 3: UP}, 1, 0, Changes((), (1,), (2,)), id="bad: gone"),
        pytest.param({1}, {2: UP}, 1, 0, Changes((1,)), id="back to an older one"),
        pytest.param({1}, {1: UP, 2: UP}, 1, 0, Changes((), (2,)), id="back: newer one goes"),
        pytest.param({1}, {1: GOING, 2: UP}, 1, 0, Changes((1,)), id="wanted again while going"),
        pytest.param(set(), {1: UP}, 1, 0, Changes(), id="an empty folder takes nothing away"),
        pytest.param(None, {1: UP, 2: BAD}, 1, 0, Changes((), (1,), (2,)), id="folder is gone"),
    ],
)
def test_plan(
    found: set[int] | None, seen: dict[int, Seen], keep: int, now: float, wanted: Changes
) -> None:
    assert plan(found, seen, keep=keep, now=now) == wanted


def test_a_bad_version_is_tried_again_ever_more_rarely() -> None:
    waits = [Seen(State.END, "x", n, 0.0).retry_at() for n in (1, 2, 3, 10_000)]
    assert waits == [1.0, 2.0, 4.0, LAST_RETRY_S]


@pytest.mark.parametrize(
    ("models", "wanted"),
    [
        pytest.param([], False, id="none"),
        pytest.param([{}], False, id="nothing loaded"),
        pytest.param([{1: UP}], True, id="one"),
        pytest.param([{1: UP}, {1: LOADING}], False, id="another is loading"),
        pytest.param([{1: UP}, {1: BAD}], True, id="another is bad"),
        pytest.param([{1: UP, 2: LOADING}], True, id="a newer one is loading"),
        pytest.param([{1: BAD}], False, id="all bad"),
    ],
)
def test_ready(models: list[dict[int, Seen]], wanted: bool) -> None:
    assert ready(models) is wanted
