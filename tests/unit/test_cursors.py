"""Cursors come back as they went out, and nothing else is taken for one."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cursors import LogCursor, WatchCursor
from controller.errors import InvalidJob

numbers = st.integers(min_value=0, max_value=2**53)


@given(st.uuids().map(str), numbers, numbers, numbers)
def test_watch_cursor_round_trip(uid: str, entry: int, generation: int, records: int) -> None:
    cursor = WatchCursor(uid, entry, generation, records)
    assert WatchCursor.decode(cursor.encode(), uid) == cursor


@given(st.uuids().map(str), st.dictionaries(numbers, numbers, max_size=8))
def test_log_cursor_round_trip(uid: str, offsets: dict[int, int]) -> None:
    cursor = LogCursor(uid, tuple(sorted(offsets.items())))
    assert LogCursor.decode(cursor.encode(), uid) == cursor


@given(st.text(max_size=200))
def test_rubbish_is_refused_by_name(text: str) -> None:
    for kind in (WatchCursor, LogCursor):
        with pytest.raises(InvalidJob) as caught:
            kind.decode(text, "u")
        assert caught.value.field == "cursor"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(WatchCursor("elsewhere", 3, 1, 7).encode(), id="another job's"),
        pytest.param(LogCursor("u", ((0, 5),)).encode(), id="a log's"),
        pytest.param("W10=", id="an empty list"),
        pytest.param(WatchCursor("u", -1, 0, 0).encode(), id="a negative position"),
    ],
)
def test_a_cursor_of_something_else_is_refused(other: str) -> None:
    with pytest.raises(InvalidJob):
        WatchCursor.decode(other, "u")


def test_a_log_cursor_with_bad_offsets_is_refused() -> None:
    bad = LogCursor("u", ((0, -5),)).encode()
    with pytest.raises(InvalidJob, match="log cursor"):
        LogCursor.decode(bad, "u")


@pytest.mark.parametrize("position", [[10**30, 0, 0], [0, 10**30, 0], [0, 1, 10**30], [0, True, 0]])
def test_a_forged_position_is_refused(position: list[object]) -> None:
    text = base64.urlsafe_b64encode(json.dumps(["u", *position]).encode()).decode()
    with pytest.raises(InvalidJob, match="cursor"):
        WatchCursor.decode(text, "u")


@pytest.mark.parametrize("pair", [[0, 2**63], [True, 1], [0, "1"], [0]])
def test_a_forged_offset_is_refused(pair: list[object]) -> None:
    text = base64.urlsafe_b64encode(json.dumps(["u", "log", [pair]]).encode()).decode()
    with pytest.raises(InvalidJob, match="cursor"):
        LogCursor.decode(text, "u")
