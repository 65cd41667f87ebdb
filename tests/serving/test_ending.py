"""Wishes to end are told from wishes to hurry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from serving.ending import Ending


@pytest.mark.parametrize(
    "wishes",
    [
        pytest.param([Ending.signalled], id="a signal"),
        pytest.param([Ending.left], id="the starter left"),
        pytest.param([Ending.left, Ending.signalled], id="left, then its signal came"),
        pytest.param([Ending.signalled, Ending.left], id="a signal, then it left"),
    ],
)
def test_one_wish_is_no_hurry(wishes: list[Callable[[Ending], None]]) -> None:
    ending = Ending()
    for wish in wishes:
        wish(ending)
    assert ending.begun.is_set()
    assert not ending.hurried.is_set()


def test_a_second_signal_hurries() -> None:
    ending = Ending()
    ending.signalled()
    ending.left()
    ending.signalled()
    assert ending.hurried.is_set()
