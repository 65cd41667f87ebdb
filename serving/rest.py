"""The REST interface of TensorFlow Serving, without the transport: which question a request is,
and the body that answers it. Pure but for the question itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from protos.taas.v1.prediction_pb2 import SignatureDef, TensorInfo
from serving import values
from serving.answers import Answers, Target
from serving.errors import Code, Refused
from serving.signatures import dtype_name
from serving.versions import Seen

_PREFIX = "/v1/"
_SERVED = (
    "GET /v1/models/NAME[/versions/N][/metadata] and POST /v1/models/NAME[/versions/N]:predict "
    "are served"
)
_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)"
    r"(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?::(?P<verb>[a-z]+)|/(?P<metadata>metadata))?"
)


async def respond(
    answers: Answers, method: str, path: str, body: bytes
) -> tuple[int, dict[str, Any]]:
    """Return status and body for a request."""
    try:
        return 200, await _respond(answers, method, path, body)
    except Refused as refused:
        return refused.code.http, error(str(refused))


def error(message: str) -> dict[str, Any]:
    """Return the body that tells an error."""
    return {"error": message}


async def _respond(answers: Answers, method: str, path: str, body: bytes) -> dict[str, Any]:
    if not path.startswith(_PREFIX):
        raise Refused(Code.NOT_FOUND, f"{path} is not served; {_SERVED}")
    match = _PATH.fullmatch(path)
    verb = match["verb"] if match else None
    if match is None or method != ("POST" if verb else "GET"):
        raise Refused(
            Code.INVALID_ARGUMENT,
            f"Malformed request: {method} {path}; {_SERVED}",
        )
    if match["label"]:
        raise Refused(Code.UNIMPLEMENTED, "versions have no labels here; name them by number")
    number = int(match["version"]) if match["version"] else None
    target = Target(unquote(match["name"]), number)
    if verb == "predict":
        return await _predict(answers, target, body)
    if verb is not None:
        raise Refused(Code.UNIMPLEMENTED, f":{verb} is not served; use :predict")
    if match["metadata"]:
        return _metadata(answers, target)
    return _status(answers.statuses(target))


async def _predict(answers: Answers, target: Target, body: bytes) -> dict[str, Any]:
    asked = values.question(body)
    target = Target(target.name, target.version, asked.signature_name)
    answer = await answers.predict(target, lambda signature: values.arrays_of(asked, signature))
    return values.answer(answer.outputs, by_rows=asked.by_rows)


def _status(statuses: Mapping[int, Seen]) -> dict[str, Any]:
    return {
        "model_version_status": [
            {
                "version": str(number),
                "state": seen.state.value,
                "status": {
                    "error_code": "UNKNOWN" if seen.error else "OK",
                    "error_message": seen.error,
                },
            }
            for number, seen in statuses.items()
        ]
    }


def _metadata(answers: Answers, target: Target) -> dict[str, Any]:
    number, definitions = answers.definitions(target)
    told = {name: _signature(definition) for name, definition in sorted(definitions.items())}
    return {
        "model_spec": {"name": target.name, "signature_name": "", "version": str(number)},
        "metadata": {"signature_def": {"signature_def": told}},
    }


def _signature(definition: SignatureDef) -> dict[str, Any]:
    return {
        "inputs": {name: _tensor(info) for name, info in sorted(definition.inputs.items())},
        "outputs": {name: _tensor(info) for name, info in sorted(definition.outputs.items())},
        "method_name": definition.method_name,
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    shape = info.tensor_shape
    return {
        "dtype": dtype_name(info.dtype),
        "tensor_shape": {
            "dim": [{"size": str(dim.size), "name": dim.name} for dim in shape.dim],
            "unknown_rank": shape.unknown_rank,
        },
        "name": info.name,
    }
