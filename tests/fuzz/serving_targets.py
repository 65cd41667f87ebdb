"""Questions to the prediction service."""

from __future__ import annotations

import json
from random import Random

from google.protobuf.message import DecodeError

from protos.taas.v1.prediction_pb2 import DataType, PredictRequest
from serving import tensors, values
from serving.errors import Refused
from serving.signatures import DTYPES, Arrays, Signature, Spec
from tests.fuzz.engine import Target
from tests.fuzz.messages import random_message

_SHAPES = ((None,), (None, 2), (), None)
_SPECS = tuple(Spec("x", dtype, shape) for dtype in DTYPES for shape in _SHAPES)
_TWO = (Spec("x", DataType.DATA_TYPE_FLOAT, (None,)), Spec("t", DataType.DATA_TYPE_STRING, None))
_SIGNATURES = (*(Signature("s", (spec,), (spec,)) for spec in _SPECS), Signature("two", _TWO, _TWO))


def targets() -> tuple[Target, ...]:
    """Return the targets."""
    return (
        Target("predict-body", _body, (Refused,), seeds=_BODIES, tokens=_WORDS),
        Target("predict", _message, (Refused, DecodeError), make=_a_message),
    )


def _body(data: bytes) -> None:
    """What a signature takes can also be told."""
    asked = values.question(data)
    refused: Refused | None = None
    taken = False
    for signature in _SIGNATURES:
        try:
            arrays = values.arrays_of(asked, signature)
            _check(signature, arrays)
            json.loads(values.dumps(values.answer(arrays, by_rows=asked.by_rows)))
            taken = True
        except Refused as error:
            refused = error
    if refused and not taken:
        raise refused


def _check(signature: Signature, arrays: Arrays) -> None:
    signature.check(arrays)
    for spec in signature.inputs:
        tensors.tensor_of(arrays[spec.name], spec.dtype).SerializeToString()


def _message(data: bytes) -> None:
    """A tensor that is taken is the same after it is told."""
    for name, tensor in PredictRequest.FromString(data).inputs.items():
        array = tensors.array_of(name, tensor)
        again = tensors.array_of(name, tensors.tensor_of(array, tensor.dtype))
        assert (again.shape, again.dtype) == (array.shape, array.dtype)


def _a_message(random: Random) -> bytes:
    """Return a question whose tensors are nearly right."""
    request = random_message(random, PredictRequest)
    assert isinstance(request, PredictRequest)
    for tensor in request.inputs.values():
        del tensor.tensor_shape.dim[3:]
        for dim in tensor.tensor_shape.dim:
            if random.random() < 0.9:
                dim.size = random.choice((0, 1, 2, 3, 1 << 40))
    return request.SerializeToString()


_BODIES = (
    b'{"instances": [[1, 2], [3.5, -4]]}',
    b'{"signature_name": "s", "instances": [{"x": 1, "t": "a"}, {"x": 2, "t": {"b64": "AP8="}}]}',
    b'{"inputs": {"x": [1, 2], "t": ["a", "b"]}}',
    b'{"inputs": [[true, false]]}',
    b'{"instances": ["text", {"b64": "YQ=="}]}',
)
_WORDS = (
    *(
        b"1e999",
        b"-1e999",
        b"NaN",
        b"Infinity",
        b"null",
        b"true",
        b"[",
        b"]",
        b"{",
        b'"',
        b"[" * 99,
    ),
    *(b"99999999999999999999999", b"-1", b"{}", b"300", b"\\ud800", b"\\u0000", b"[],", b"1.5"),
    *(b'{"b64": "', b'"instances"', b'"inputs"', b"1e400", b"-0.0", b"2147483648", b"[[]]"),
)
