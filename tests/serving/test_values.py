"""JSON of the REST interface to arrays and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from protos.taas.v1.prediction_pb2 import DataType
from serving import values
from serving.errors import Code, Refused
from serving.signatures import Signature, Spec

ROWS = Spec("rows", DataType.DATA_TYPE_FLOAT, (None, 2))
NUMBER = Spec("n", DataType.DATA_TYPE_INT8, (None,))
TEXT = Spec("t", DataType.DATA_TYPE_STRING, (None,))
FLAG = Spec("flag", DataType.DATA_TYPE_BOOL, (None,))


def signature(*inputs: Spec) -> Signature:
    return Signature("s", tuple(inputs), ())


def read(body: Any, *inputs: Spec) -> dict[str, Any]:
    asked = values.question(json.dumps(body).encode())
    return {n: a.tolist() for n, a in values.arrays_of(asked, signature(*inputs)).items()}


@pytest.mark.parametrize(
    ("body", "inputs", "wanted"),
    [
        pytest.param({"instances": [[1, 2], [3, 4.5]]}, [ROWS], {"rows": [[1, 2], [3, 4.5]]}),
        pytest.param({"instances": [{"rows": [1, 2]}]}, [ROWS], {"rows": [[1, 2]]}),
        pytest.param({"inputs": [[1, 2]]}, [ROWS], {"rows": [[1, 2]]}),
        pytest.param({"inputs": {"rows": [[1, 2]]}}, [ROWS], {"rows": [[1, 2]]}),
        pytest.param(
            {"instances": [{"n": 1, "t": "a"}, {"t": {"b64": "AP8="}, "n": -2}]},
            [NUMBER, TEXT],
            {"n": [1, -2], "t": [b"a", b"\0\xff"]},
        ),
        pytest.param({"instances": [{"b64": "YQ=="}, "ü"]}, [TEXT], {"t": [b"a", "ü".encode()]}),
        pytest.param({"inputs": {"b64": "YQ=="}}, [TEXT], {"t": b"a"}),
        pytest.param({"instances": [True, False]}, [FLAG], {"flag": [True, False]}),
        pytest.param({"inputs": []}, [TEXT], {"t": []}),
    ],
)
def test_read(body: Any, inputs: list[Spec], wanted: dict[str, Any]) -> None:
    assert read(body, *inputs) == wanted


@pytest.mark.parametrize(
    ("body", "inputs", "told"),
    [
        pytest.param({"instances": [[1, 2], [3]]}, [ROWS], "not all of one length", id="ragged"),
        pytest.param(
            {"inputs": {"t": ["a", []]}}, [TEXT], "not all of one length", id="text, list"
        ),
        pytest.param(
            {"inputs": [["a"], ["b", "c"]]}, [TEXT], "not all of one length", id="ragged texts"
        ),
        pytest.param({"instances": [["1", "2"]]}, [ROWS], "does not fit", id="text for numbers"),
        pytest.param({"instances": [[None, 1]]}, [ROWS], "does not fit", id="null"),
        pytest.param({"instances": [True]}, [NUMBER], "does not fit", id="bool for a number"),
        pytest.param({"instances": [1]}, [FLAG], "does not fit", id="number for a bool"),
        pytest.param({"instances": [1.5]}, [NUMBER], "does not fit", id="float for an int"),
        pytest.param({"instances": [128]}, [NUMBER], "a value does not fit", id="too large"),
        pytest.param({"instances": [2**70]}, [NUMBER], "does not fit", id="far too large"),
        pytest.param({"instances": [1]}, [TEXT], "neither text nor", id="number for text"),
        pytest.param({"instances": [{"b64": "?"}]}, [TEXT], "no base64", id="not base64"),
        pytest.param({"instances": [{"b64": 1}]}, [TEXT], "no base64", id="b64 is no text"),
        pytest.param({"instances": [{"x": 1}]}, [ROWS], "['x'] is not an input", id="unknown"),
        pytest.param({"instances": [1]}, [NUMBER, TEXT], "name the inputs", id="which input"),
        pytest.param(
            {"instances": [{"n": 1, "t": ""}, {"n": 1}]}, [NUMBER, TEXT], "1: has ['n']", id="lacks"
        ),
        pytest.param({"instances": []}, [ROWS], "must be a list of examples", id="none"),
        pytest.param({"instances": [1], "inputs": 1}, [ROWS], "give either", id="both"),
        pytest.param({}, [ROWS], "give either", id="neither"),
        pytest.param([], [ROWS], "must be an object", id="no object"),
        pytest.param({"inputs": 1, "signature_name": 1}, [ROWS], "must be text", id="name"),
    ],
)
def test_refused(body: Any, inputs: list[Spec], told: str) -> None:
    with pytest.raises(Refused) as refused:
        read(body, *inputs)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert told in str(refused.value)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"inputs": ' + b"[" * 5000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(Refused, match="the body is not JSON"):
        values.question(body)


def test_lists_in_lists_without_end_are_refused() -> None:
    asked = values.question(b'{"inputs": ' + b"[" * 500 + b"]" * 500 + b"}")
    for spec in (ROWS, TEXT):
        with pytest.raises(Refused):
            values.arrays_of(asked, signature(spec))


TWO = {
    "a": np.array([1, 2], np.int32),
    "b": np.array([b"x", b"\xff"], object),
}


def test_answers_by_rows_and_by_columns() -> None:
    one = {"a": TWO["a"]}
    assert values.answer(one, by_rows=True) == {"predictions": [1, 2]}
    assert values.answer(one, by_rows=False) == {"outputs": [1, 2]}
    assert values.answer(TWO, by_rows=True) == {
        "predictions": [{"a": 1, "b": "x"}, {"a": 2, "b": {"b64": "/w=="}}]
    }
    assert values.answer(TWO, by_rows=False) == {
        "outputs": {"a": [1, 2], "b": ["x", {"b64": "/w=="}]}
    }


def test_what_is_named_bytes_is_told_as_bytes() -> None:
    told = values.answer({"a_bytes": np.array([b"x"], object)}, by_rows=True)
    assert told == {"predictions": [{"b64": "eA=="}]}


def test_outputs_of_unequal_length_cannot_be_told_by_rows() -> None:
    with pytest.raises(Refused, match='ask with "inputs" instead'):
        values.answer({**TWO, "sum": np.zeros(())}, by_rows=True)
