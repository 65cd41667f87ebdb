"""The TensorFlow Serving API over real gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.taas.v1 import prediction_pb2 as wire
from protos.taas.v1.prediction_pb2 import DataType
from serving import tensors
from serving.rpc import PREDICTION
from tests.serving.models import DEFINITIONS
from tests.serving.world import World


def question(rows: Any = ((1, 2),), **spec: Any) -> wire.PredictRequest:
    """Return a question to the model m."""
    request = wire.PredictRequest(model_spec=wire.ModelSpec(**{"name": "m", **spec}))
    tensor = tensors.tensor_of(np.array(rows, np.float32), DataType.DATA_TYPE_FLOAT)
    request.inputs["rows"].CopyFrom(tensor)
    return request


async def test_predict(world: World) -> None:
    response = await world.call("Predict", question([[1, 2], [3, 4]]), wire.PredictResponse)
    values = tensors.array_of("values", response.outputs["values"])
    np.testing.assert_array_equal(values, [[2, 4], [6, 8]])
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"


async def test_only_the_outputs_that_are_asked_for(world: World) -> None:
    request = wire.PredictRequest(
        model_spec=wire.ModelSpec(name="m", signature_name="measure"), output_filter=["lengths"]
    )
    request.inputs["texts"].dtype = DataType.DATA_TYPE_STRING
    request.inputs["texts"].tensor_shape.dim.add(size=2)
    request.inputs["texts"].string_val.extend([b"a", b"bcd"])
    response = await world.call("Predict", request, wire.PredictResponse)
    assert list(response.outputs) == ["lengths"]
    assert list(response.outputs["lengths"].int64_val) == [1, 3]


async def test_status(world: World) -> None:
    request = wire.GetModelStatusRequest(model_spec=wire.ModelSpec(name="m"))
    response = await world.call("GetModelStatus", request, wire.GetModelStatusResponse)
    (version,) = response.model_version_status
    assert (version.version, version.state) == (1, wire.ModelVersionStatus.STATE_AVAILABLE)


async def test_metadata(world: World) -> None:
    request = wire.GetModelMetadataRequest(
        model_spec=wire.ModelSpec(name="m"), metadata_field=["signature_def"]
    )
    response = await world.call("GetModelMetadata", request, wire.GetModelMetadataResponse)
    found = response.metadata["signature_def"]
    assert found.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    assert dict(wire.SignatureDefMap.FromString(found.value).signature_def) == DEFINITIONS


def _filtered() -> wire.PredictRequest:
    request = question()
    request.output_filter.append("z")
    return request


def _labelled() -> wire.PredictRequest:
    return question(version_label="stable")


def _versioned() -> wire.PredictRequest:
    request = question()
    request.model_spec.version.value = 9
    return request


_METADATA = wire.GetModelMetadataRequest(model_spec=wire.ModelSpec(name="m"))


@pytest.mark.parametrize(
    ("method", "request_", "code", "told"),
    [
        pytest.param("Predict", question(name=""), "INVALID_ARGUMENT", "Missing ModelSpec"),
        pytest.param("Predict", question(name="x"), "NOT_FOUND", "Latest(x)"),
        pytest.param("Predict", _versioned(), "NOT_FOUND", "Specific(m, 9)"),
        pytest.param("Predict", _labelled(), "UNIMPLEMENTED", "no labels"),
        pytest.param("Predict", question(signature_name="z"), "FAILED_PRECONDITION", '"z" not f'),
        pytest.param("Predict", _filtered(), "INVALID_ARGUMENT", '"z" is not an output'),
        pytest.param("Predict", question([1, 2]), "INVALID_ARGUMENT", "(2) does not fit"),
        pytest.param("Predict", b"\xff", "INVALID_ARGUMENT", "are no PredictRequest"),
        pytest.param("Predict", b"\x0a" * 100_001, "RESOURCE_EXHAUSTED", "larger than max"),
        pytest.param("GetModelMetadata", _METADATA, "INVALID_ARGUMENT", "signature_def"),
        pytest.param("Classify", b"", "UNIMPLEMENTED", ""),
    ],
)
async def test_errors(world: World, method: str, request_: Any, code: str, told: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await world.call(method, request_, wire.PredictResponse)
    assert error.value.code().name == code
    assert told in (error.value.details() or "")


async def test_health(world: World) -> None:
    stub = health_pb2_grpc.HealthStub(world.channel)
    for service in ("", PREDICTION):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
