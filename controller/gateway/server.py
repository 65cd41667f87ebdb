"""The gRPC server of a storage gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from controller.gateway.service import StorageService
from controller.gateway.token import TokenFile, TokenInterceptor
from controller.local.storage import FolderStorage
from controller.wire_errors import ErrorInterceptor
from protos import keepalive
from protos.taas.v1 import storage_service_pb2, storage_service_pb2_grpc

# Seconds that calls in flight get when the gateway is told to stop; reads go on elsewhere.
_STOP_GRACE_S = 2.0
_OPTIONS = [
    # The digests that a namespace keeps come in one message; the rest is far smaller.
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.so_reuseport", 0),
    # The controller asks on idle connections whether the gateway is still there.
    *keepalive.pinged(),
]


@asynccontextmanager
async def serving(
    root: Path,
    address: str,
    token: TokenFile,
    *,
    credentials: grpc.ServerCredentials,
    health_address: str,
) -> AsyncIterator[str]:
    """Serve a folder at HOST:PORT, any free port for 0, for as long as the block runs; without
    TLS, which kubelets do not speak, nothing but health at another.

    Gives the address as it is. Raises OSError when it cannot be had.
    """
    server = grpc.aio.server(
        interceptors=[TokenInterceptor(token), ErrorInterceptor()], options=_OPTIONS
    )
    storage_service_pb2_grpc.add_StorageServiceServicer_to_server(
        StorageService(FolderStorage(root)), server
    )
    healthy = health.aio.HealthServicer()  # type: ignore[attr-defined]
    probed = grpc.aio.server(options=_OPTIONS)
    for each in (server, probed):
        health_pb2_grpc.add_HealthServicer_to_server(healthy, each)
    port = _bound(address, lambda: server.add_secure_port(address, credentials))
    _bound(health_address, lambda: probed.add_insecure_port(health_address))
    await server.start()
    await probed.start()
    name = storage_service_pb2.DESCRIPTOR.services_by_name["StorageService"].full_name
    for service in ("", name):
        await healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
    host, _, _ = address.rpartition(":")
    try:
        yield f"{host}:{port}"
    finally:
        await healthy.enter_graceful_shutdown()
        await server.stop(_STOP_GRACE_S)
        await probed.stop(None)


def _bound(address: str, bind: Callable[[], int]) -> int:
    try:
        return bind()
    except RuntimeError as error:
        raise OSError(f"{address}: cannot be listened at; give another HOST:PORT") from error
