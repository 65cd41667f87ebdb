"""The door over gRPC: the services of the TensorFlow Serving API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from protos.taas.v1 import prediction_pb2 as wire
from serving import tensors
from serving.answers import Answers, Target, dtypes
from serving.errors import Code, Refused
from serving.signatures import Arrays, Signature

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
_MAP_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
_SIGNATURES = "signature_def"
_CODES = {code.value[0]: code for code in grpc.StatusCode}

_Request = TypeVar("_Request", bound=Message)
_Behavior = Callable[[Any], Awaitable[Message]]


def add_to(server: grpc.aio.Server, answers: Answers) -> None:
    """Add both services to a server."""
    calls = _Calls(answers)
    prediction = {
        "Predict": _handler(wire.PredictRequest, calls.predict),
        "GetModelMetadata": _handler(wire.GetModelMetadataRequest, calls.metadata),
    }
    model = {"GetModelStatus": _handler(wire.GetModelStatusRequest, calls.status)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(PREDICTION, prediction),
            grpc.method_handlers_generic_handler(MODEL, model),
        )
    )


def _handler(kind: type[_Request], behavior: _Behavior) -> Any:
    """Return a handler that reads the message itself, so that a bad one is told as such."""

    async def handle(content: bytes, context: Any) -> bytes:
        try:
            try:
                request = kind.FromString(content)
            except DecodeError as error:
                raise Refused(
                    Code.INVALID_ARGUMENT, f"the bytes are no {kind.__name__}: {error}"
                ) from error
            return (await behavior(request)).SerializeToString()
        except Refused as refused:
            await context.abort(_CODES[refused.code], str(refused))
            raise AssertionError("abort raises") from refused

    return grpc.unary_unary_rpc_method_handler(handle)


class _Calls:
    """What the calls do. Each raises Refused."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def predict(self, request: wire.PredictRequest) -> wire.PredictResponse:
        def inputs(_: Signature) -> Arrays:
            return {name: tensors.array_of(name, t) for name, t in request.inputs.items()}

        target = _target(request.model_spec)
        answer = await self._answers.predict(target, inputs, request.output_filter)
        response = wire.PredictResponse(model_spec=_spec(target, answer.version))
        response.model_spec.signature_name = answer.signature.name
        types = dtypes(answer)
        for name, array in answer.outputs.items():
            response.outputs[name].CopyFrom(tensors.tensor_of(array, types[name]))
        return response

    async def metadata(
        self, request: wire.GetModelMetadataRequest
    ) -> wire.GetModelMetadataResponse:
        if list(request.metadata_field) != [_SIGNATURES]:
            raise Refused(
                Code.INVALID_ARGUMENT,
                f'metadata_field: is {list(request.metadata_field)}; ask for ["{_SIGNATURES}"]',
            )
        target = _target(request.model_spec)
        number, definitions = self._answers.definitions(target)
        found = wire.SignatureDefMap(signature_def=definitions)
        response = wire.GetModelMetadataResponse(model_spec=_spec(target, number))
        response.metadata[_SIGNATURES].type_url = _MAP_URL
        response.metadata[_SIGNATURES].value = found.SerializeToString()
        return response

    async def status(self, request: wire.GetModelStatusRequest) -> wire.GetModelStatusResponse:
        response = wire.GetModelStatusResponse()
        for number, seen in self._answers.statuses(_target(request.model_spec)).items():
            told = response.model_version_status.add(
                version=number, state=f"STATE_{seen.state.value}"
            )
            if seen.error:
                told.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                told.status.error_message = seen.error
        return response


def _target(spec: wire.ModelSpec) -> Target:
    if not spec.name:
        raise Refused(Code.INVALID_ARGUMENT, "Missing ModelSpec: model_spec.name is empty; name it")
    if spec.version_label:
        raise Refused(
            Code.UNIMPLEMENTED,
            f'model_spec.version_label: is "{spec.version_label}"; versions have no labels here, '
            "set model_spec.version",
        )
    version = spec.version.value if spec.HasField("version") else None
    return Target(spec.name, version, spec.signature_name)


def _spec(target: Target, version: int) -> wire.ModelSpec:
    spec = wire.ModelSpec(name=target.name)
    spec.version.value = version
    return spec
