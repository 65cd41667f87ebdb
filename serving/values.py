"""JSON to arrays and back, in the two forms of TensorFlow Serving's REST interface. Pure.

By rows, {"instances": [...]}: one entry an example; answered with {"predictions": [...]}. By
columns, {"inputs": ...}: one entry an input; answered with {"outputs": ...}. Where there is only
one input or output its name can be left out. Bytes are {"b64": "..."}.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protos.taas.v1.prediction_pb2 import DataType
from serving.errors import Code, Refused
from serving.signatures import DTYPES, Arrays, Signature, Spec, described

_B64 = "b64"
# An output so named has bytes that are no text, whatever they look like.
_BYTES = "_bytes"
# Kinds of numpy's types that a value of a kind may be written as.
_TAKEN = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}


@dataclass(frozen=True, slots=True)
class Question:
    """A request's body, before it is known what the model takes."""

    signature_name: str
    by_rows: bool
    values: Any


def question(body: bytes) -> Question:
    """Return what a body asks. Raises Refused."""
    try:
        read = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise _bad('the body must be an object with "instances" or "inputs"')
    name = read.get("signature_name", "")
    if not isinstance(name, str):
        raise _bad(f'"signature_name" must be text, and is {_short(name)}')
    if ("instances" in read) == ("inputs" in read):
        raise _bad('give either "instances" (a list of examples) or "inputs" (by input)')
    by_rows = "instances" in read
    values = read["instances" if by_rows else "inputs"]
    if by_rows and not (isinstance(values, list) and values):
        raise _bad(f'"instances" must be a list of examples, and is {_short(values)}')
    return Question(name, by_rows, values)


def arrays_of(asked: Question, signature: Signature) -> Arrays:
    """Return the arrays of a question for a signature. Raises Refused."""
    specs = signature.inputs
    columns = _columns(asked.values, specs) if asked.by_rows else _named(asked.values, specs)
    known = {spec.name: spec for spec in specs}
    if columns.keys() - known.keys():
        raise _bad(
            f"{sorted(columns.keys() - known.keys())} is not an input; signature "
            f'"{signature.name}" takes {described(specs)}'
        )
    return {name: _array(known[name], value) for name, value in columns.items()}


def _named(values: Any, specs: Sequence[Spec]) -> dict[str, Any]:
    """Return values by input; of an only input the name may be left out."""
    if isinstance(values, dict) and not _is_bytes(values):
        return values
    if len(specs) != 1:
        raise _bad(f"name the inputs: {described(specs)}")
    return {specs[0].name: values}


def _columns(rows: Sequence[Any], specs: Sequence[Spec]) -> dict[str, list[Any]]:
    """Return the values of all rows by input."""
    named = [_named(row, specs) for row in rows]
    for number, row in enumerate(named):
        if row.keys() != named[0].keys():
            raise _bad(
                f'"instances" {number}: has {sorted(row)}, the first one {sorted(named[0])}; name '
                "the same inputs in each"
            )
    return {name: [row[name] for row in named] for name in named[0]}


def _array(spec: Spec, value: Any) -> np.ndarray[Any, Any]:
    dtype = DTYPES.get(spec.dtype)
    if dtype is None:
        raise _bad(f"{spec} cannot be sent as JSON")
    try:
        if spec.dtype == DataType.DATA_TYPE_STRING:
            array = np.array(_bytes(spec, value), dtype)
            # NumPy takes lists that do not match for objects, as texts are.
            if any(isinstance(text, list) for text in array.flat):
                raise ValueError("a text beside a list, or lists of other lengths")
            return array
        array = np.array(value)
    except (ValueError, RecursionError) as error:
        raise _bad(
            f'"{spec.name}": the lists in it are not all of one length ({error}); {spec}'
        ) from error
    if array.size and array.dtype.kind not in _TAKEN[dtype.kind]:
        raise _bad(f'"{spec.name}": {_short(value)} does not fit {spec}')
    if array.size and dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
            raise _bad(f'"{spec.name}": a value does not fit {spec}')
    # What is too large for a small float becomes infinite, as it does in the model.
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _bytes(spec: Spec, value: Any) -> Any:
    """Return nested lists of bytes for nested lists of text and {"b64": ...}."""
    if isinstance(value, list):
        return [_bytes(spec, one) for one in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if _is_bytes(value):
        try:
            return base64.b64decode(value[_B64], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise _bad(f'"{spec.name}": "{_B64}" holds no base64: {error}') from error
    raise _bad(f'"{spec.name}": {_short(value)} is neither text nor {{"{_B64}": ...}}')


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {_B64}


def answer(outputs: Arrays, *, by_rows: bool) -> dict[str, Any]:
    """Return the body that answers a question. Raises Refused if it cannot be told by rows."""
    told = {name: _json(name, array) for name, array in outputs.items()}
    only = next(iter(told.values())) if len(told) == 1 else None
    if not by_rows:
        return {"outputs": told if only is None else only}
    sizes = {array.shape[:1] for array in outputs.values()}
    if len(sizes) != 1 or () in sizes:
        raise _bad('the outputs differ in their number of examples; ask with "inputs" instead')
    if only is not None:
        return {"predictions": only}
    rows = zip(*told.values(), strict=True)
    return {"predictions": [dict(zip(told, row, strict=True)) for row in rows]}


def _json(name: str, array: np.ndarray[Any, Any]) -> Any:
    if array.dtype == object:
        return _text(array.tolist(), as_bytes=name.endswith(_BYTES))
    return array.tolist()


def _text(value: Any, *, as_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_text(one, as_bytes=as_bytes) for one in value]
    if not as_bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return {_B64: base64.b64encode(value).decode()}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bad(why: str) -> Refused:
    return Refused(Code.INVALID_ARGUMENT, why)


def dumps(body: Mapping[str, Any]) -> bytes:
    """Return a body as bytes."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
