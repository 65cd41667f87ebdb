"""A filter is understood as a whole, or the term at fault is shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import parse_filter
from controller.errors import InvalidJob
from controller.ports import ListFilter


@pytest.mark.parametrize(
    ("parent", "text", "wanted"),
    [
        pytest.param("namespaces/a", "", ListFilter("a"), id="all of a namespace"),
        pytest.param("namespaces/-", "", ListFilter(None), id="all"),
        pytest.param("namespaces/a", "  ", ListFilter("a"), id="blank"),
        pytest.param(
            "namespaces/a", "phase=RUNNING", ListFilter("a", frozenset({"RUNNING"})), id="phase"
        ),
        pytest.param(
            "namespaces/a",
            "phase=running",
            ListFilter("a", frozenset({"RUNNING"})),
            id="lower case",
        ),
        pytest.param(
            "namespaces/a",
            "phase=PHASE_FAILED",
            ListFilter("a", frozenset({"FAILED"})),
            id="wire name",
        ),
        pytest.param(
            "namespaces/a",
            "labels.team=vision",
            ListFilter("a", labels=(("team", "vision"),)),
            id="label",
        ),
        pytest.param(
            "namespaces/a",
            "labels.team=",
            ListFilter("a", labels=(("team", ""),)),
            id="empty label",
        ),
        pytest.param(
            "namespaces/a",
            "labels.example.com/team=x AND labels.b=y",
            ListFilter("a", labels=(("b", "y"), ("example.com/team", "x"))),
            id="labels, sorted",
        ),
        pytest.param(
            "namespaces/a", "name=mnist*", ListFilter("a", name_prefix="mnist"), id="name"
        ),
        pytest.param("namespaces/a", "name=a-*", ListFilter("a", name_prefix="a-"), id="hyphen"),
        pytest.param("namespaces/a", "name=*", ListFilter("a"), id="any name"),
        pytest.param(
            "namespaces/-",
            " phase = RUNNING  AND\tlabels.team = vision AND name = mnist* ",
            ListFilter(None, frozenset({"RUNNING"}), (("team", "vision"),), "mnist"),
            id="everything, with spaces",
        ),
    ],
)
def test_a_filter_is_parsed(parent: str, text: str, wanted: ListFilter) -> None:
    assert parse_filter.list_filter(parent, text) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("phase=WALKING", "'phase=WALKING' names no phase; use one of", id="phase"),
        pytest.param("phase=", "'phase=' names no phase", id="no phase"),
        pytest.param("phase=UNSPECIFIED", "names no phase", id="unspecified phase"),
        pytest.param("phase", "'phase' is not understood", id="no equals"),
        pytest.param("phase!=RUNNING", "'phase!=RUNNING' is not understood", id="not equals"),
        pytest.param("phase>RUNNING", "is not understood", id="greater"),
        pytest.param("colour=blue", "'colour=blue' is not understood; join", id="unknown key"),
        pytest.param("RUNNING", "'RUNNING' is not understood", id="a word"),
        pytest.param("phase=RUNNING OR phase=FAILED", "names no phase", id="or"),
        pytest.param("phase=RUNNING and name=a*", "names no phase", id="and in lower case"),
        pytest.param("phase=RUNNING AND", "names no phase", id="nothing after AND"),
        pytest.param("phase=RUNNING AND  AND name=a*", "not understood", id="nothing between"),
        pytest.param("AND phase=RUNNING", "not understood", id="nothing before AND"),
        pytest.param(
            "phase=RUNNING AND colour=x", "'colour=x' is not understood", id="second term"
        ),
        pytest.param("labels=x", "'labels=x' is not understood", id="no label key"),
        pytest.param("labels.=x", "'' cannot be a label's key", id="empty label key"),
        pytest.param("labels.a=x y", "'x y' cannot be the value of label a", id="label value"),
        pytest.param('labels.a="x"', "cannot be the value", id="quotes"),
        pytest.param("name=mnist", "for example name=mnist*", id="no asterisk"),
        pytest.param("name=", "'name=' is no beginning", id="no name"),
        pytest.param("name=*x*", "'name=*x*' is no beginning", id="asterisk inside"),
        pytest.param("name=My*", "use a-z, 0-9 and '-', then '*'", id="capital"),
        pytest.param("name=-*", "'name=-*' is no beginning", id="hyphen first"),
        pytest.param("name=a* AND name=b*", "'name=b*' names name again", id="name twice"),
        pytest.param("phase=FAILED AND phase=FAILED", "names phase again", id="phase twice"),
        pytest.param("labels.a=1 AND labels.a=2", "names labels.a again", id="label twice"),
        pytest.param("x" * 10_000, "...", id="long"),
    ],
)
def test_a_bad_filter_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidJob, match=re.escape(says)) as caught:
        parse_filter.list_filter("namespaces/a", text)
    assert caught.value.field == "filter"
    assert len(caught.value.why) < 400


def test_a_bad_parent_of_a_list_is_refused() -> None:
    with pytest.raises(InvalidJob, match="write namespaces/NAMESPACE") as caught:
        parse_filter.list_filter("vision", "")
    assert caught.value.field == "parent"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text("phaselbn=.*AND -", max_size=60))
def test_any_filter_is_parsed_or_refused(text: str) -> None:
    try:
        assert parse_filter.list_filter("namespaces/a", text).namespace == "a"
    except InvalidJob as error:
        assert error.field == "filter"  # noqa: PT017  # both ends are fine
