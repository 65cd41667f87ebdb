"""Errors cross the wire with their details."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from taas import errors
from taas.client import Client
from tests.client.double import refuse


class Refusing(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # not so at run time
    """Answers every call with one status."""

    code = 0
    details: tuple[Any, ...] = ()

    def service(self, _: Any) -> grpc.RpcMethodHandler[bytes, bytes]:
        def handle(request: bytes, context: Any) -> bytes:
            refuse(context, self.code, "the text", *self.details)

        return grpc.unary_unary_rpc_method_handler(handle)


@pytest.fixture
def refusing() -> Refusing:
    """What the service says."""
    return Refusing()


@pytest.fixture
def client(refusing: Refusing, tmp_path: Path) -> Iterator[Client]:
    """A client of a service that refuses."""
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[refusing])
    server.add_insecure_port(f"unix:{tmp_path / 's'}")
    server.start()
    with Client(f"unix:{tmp_path / 's'}", retry_for_s=0) as connected:
        yield connected
    server.stop(0).wait()


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
def test_every_code_has_its_error(
    client: Client, refusing: Refusing, code: grpc.StatusCode
) -> None:
    refusing.code = code.value[0]
    with pytest.raises(errors.TaasError, match=r".+") as caught:
        client.get("x")
    assert type(caught.value) is errors.KINDS.get(code, errors.InternalError)
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert not isinstance(caught.value, grpc.RpcError)


def test_details(client: Client, refusing: Refusing) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="spec.workers", description="no")
    limit = error_details_pb2.QuotaFailure.Violation(subject="bytes", description="too many")
    refusing.details = (
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.QuotaFailure(violations=[limit]),
        error_details_pb2.ResourceInfo(resource_name="namespaces/a/trainingJobs/x"),
        error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),
        error_details_pb2.DebugInfo(detail="of a kind that is not used here"),
    )
    refusing.code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    with pytest.raises(errors.InvalidRequest, match=r"^spec\.workers: no$") as invalid:
        client.get("x")
    assert invalid.value.violations == (errors.FieldViolation("spec.workers", "no"),)
    refusing.code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    with pytest.raises(errors.LimitExceeded, match=r"^bytes: too many$"):
        client.get("x")
    for code, kind in (
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
    ):
        refusing.code = code.value[0]
        with pytest.raises(kind, match="the text") as named:
            client.get("x")
        assert getattr(named.value, "what", "") == "namespaces/a/trainingJobs/x"
    refusing.code = grpc.StatusCode.UNAVAILABLE.value[0]
    with pytest.raises(errors.ServiceUnavailable) as away:
        client.get("x")
    assert away.value.retry_after_s == 1.5


@pytest.mark.parametrize(
    ("details", "words"),
    [
        pytest.param((), "does not answer: the text", id="gRPC itself"),
        pytest.param(
            (error_details_pb2.ErrorInfo(reason="ClusterUnavailable", domain="taas.v1"),),
            "cannot do this now: the text",
            id="kind",
        ),
        pytest.param((error_details_pb2.RetryInfo(),), "cannot do this now: the text", id="retry"),
    ],
)
def test_who_said_unavailable(
    client: Client, refusing: Refusing, tmp_path: Path, details: tuple[Any, ...], words: str
) -> None:
    refusing.code, refusing.details = grpc.StatusCode.UNAVAILABLE.value[0], details
    with pytest.raises(errors.ServiceUnavailable, match=f"^the service at .* {words}$") as caught:
        client.get("x")
    assert caught.value.answered == bool(details)
