"""What is asked together, and whose answer is whose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import batching
from serving.batching import Size


@pytest.mark.parametrize(
    ("waiting", "wanted"),
    [
        pytest.param([], (), id="nothing"),
        pytest.param([Size(1)], (0,), id="one"),
        pytest.param([Size(99)], (0,), id="one that is too large"),
        pytest.param([Size(4), Size(4), Size(4)], (0, 1), id="as many as fit"),
        pytest.param([Size(4), Size(6), Size(4)], (0, 2), id="a large one waits"),
        pytest.param([Size(1), Size(1, ("x",)), Size(1)], (0, 2), id="another form waits"),
        pytest.param([Size(1), Size(None), Size(1)], (0, 2), id="one that goes alone waits"),
        pytest.param([Size(None), Size(1)], (0,), id="one that goes alone"),
    ],
)
def test_take(waiting: list[Size], wanted: tuple[int, ...]) -> None:
    assert batching.take(waiting, 8) == wanted


@given(st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=30))
def test_everything_is_taken_once_and_the_oldest_is_never_passed_over(
    rows: list[int | None],
) -> None:
    waiting = list(enumerate(map(Size, rows)))
    done = []
    while waiting:
        places = batching.take([size for _, size in waiting], 8)
        assert places[0] == 0
        done += [waiting[place][0] for place in places]
        waiting = [one for place, one in enumerate(waiting) if place not in places]
    assert sorted(done) == list(range(len(rows)))


def test_parts_are_what_was_joined() -> None:
    questions = [{"x": np.arange(n * 2).reshape(n, 2)} for n in (2, 0, 3)]
    parts = batching.part(batching.join(questions), [2, 0, 3])
    assert parts is not None
    for asked, said in zip(questions, parts, strict=True):
        np.testing.assert_array_equal(asked["x"], said["x"])


def test_outputs_that_are_not_by_example_cannot_be_taken_apart() -> None:
    assert batching.part({"x": np.zeros(3), "sum": np.zeros(())}, [1, 2]) is None
