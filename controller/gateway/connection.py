"""One open channel to one storage gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controller.gateway.token import bearer
from protos import keepalive
from protos.taas.v1 import storage_service_pb2_grpc

_OPTIONS = [
    # A node that is lost answers nothing and refuses nothing: only pings find that out.
    *keepalive.pings(every_s=10),
    # Gateways are reached inside the cluster, never through a proxy of the environment.
    ("grpc.enable_http_proxy", 0),
    # Channels share their sockets unless told otherwise, and with them a broken one's back-off.
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where a gateway listens, as HOST:PORT, the token that it wants, and how it is told from
    another: it has the name, and a certificate of the authority (PEM)."""

    address: str
    token: str = field(repr=False)
    name: str
    authority: bytes


def channel_to(gateway: Gateway) -> grpc.aio.Channel:
    """Return a channel to a gateway, which speaks to nobody else that listens there."""
    options = [*_OPTIONS, ("grpc.ssl_target_name_override", gateway.name)]
    credentials = grpc.ssl_channel_credentials(gateway.authority)
    return grpc.aio.secure_channel(gateway.address, credentials, options=options)


class Connection:
    """A channel to a gateway. It is closed once it is retired and its last call has ended:
    closing it under a call would look to the caller as if he had been cancelled."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.metadata = bearer(gateway.token)
        self._channel = channel_to(gateway)
        self.stub: Any = storage_service_pb2_grpc.StorageServiceStub(self._channel)
        self._calls = 0
        self._retired = False

    async def trouble(self, timeout_s: float) -> str:
        """Ask the gateway how it is; return what is wrong, "" if it serves and takes the token."""
        check = health_pb2_grpc.HealthStub(self._channel).Check
        request = health_pb2.HealthCheckRequest()
        try:
            reply = await check(request, metadata=self.metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return f"{self.gateway.address}: {error.code().name}: {error.details()}"
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            return f"{self.gateway.address}: does not serve"
        return ""

    @asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """Keep the channel open for the length of the block."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._retired and not self._calls:
                await self._channel.close(None)

    async def retire(self) -> None:
        """Close the channel as soon as nobody uses it."""
        self._retired = True
        if not self._calls:
            await self._channel.close(None)
