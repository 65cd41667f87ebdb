"""Brings one source archive to a claim through its gateway."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import grpc

from controller.errors import ClusterUnavailable, TaasError
from controller.gateway.connection import Connection
from controller.gateway.losses import check_lost
from controller.gateway.pool import GatewayPool, Lease
from protos.taas.v1 import storage_service_pb2 as pb

# Bytes of one message.
_PIECE = 1024 * 1024
# Seconds that one step may take: a message there, on disk, and the answer back. The commit
# flushes the whole archive.
_STEP_S = 60.0
_COMMIT_S = 300.0
_ABORT_S = 5.0
# Seconds that a whole upload may take, however slow the client is.
_UPLOAD_S = 3600.0
# Gateways that are tried before anything was sent.
_TRIES = 3


class GatewaySourceWriter:
    """The SourceWriter through a gateway. Each step returns once the gateway has done it.

    An upload whose gateway is lost fails: what came is gone with it, the client sends it again.
    After an error, commit or abort it is of no more use. While it is open, its gateway is in use.
    """

    def __init__(self, pool: GatewayPool, claim: str, header: pb.SourceHeader) -> None:
        self._pool = pool
        self._claim = claim
        self._header = header
        self._held = AsyncExitStack()  # what an open upload holds on to
        self._call: _Call | None = None

    async def write(self, data: bytes) -> None:
        """Append. Raises InvalidJob when there is more than was announced."""
        for start in range(0, len(data), _PIECE):
            await self._step(pb.ReceiveSourceRequest(data=data[start : start + _PIECE]), _STEP_S)

    async def commit(self) -> None:
        """Check size and digest, then publish durably. Raises InvalidJob, and keeps nothing."""
        await self._step(pb.ReceiveSourceRequest(commit=True), _COMMIT_S)
        await self._close()

    async def abort(self) -> None:
        """Throw away what was received. Nothing happens after a commit."""
        if self._call is None:
            return
        try:
            # A gateway that does not hear of it drops what came when the call ends.
            with suppress(TaasError):
                await self._call.step(pb.ReceiveSourceRequest(abort=True), _ABORT_S)
        finally:
            await self._close()

    async def _step(self, request: pb.ReceiveSourceRequest, limit_s: float) -> None:
        """Have a step done; after an error the upload is over."""
        try:
            call = self._call or await self._open()
            if not await call.step(request, limit_s):
                raise ClusterUnavailable(
                    f"{call.lease} was lost during the upload; send the source again"
                )
        except BaseException:
            await self._close()
            raise

    async def _open(self) -> _Call:
        """Begin the call. A gateway that turns out to be gone is replaced: nothing was sent."""
        lease = await self._held.enter_async_context(
            self._pool.lease(self._header.namespace, self._claim)
        )
        for _ in range(_TRIES):
            connection = await lease.connection()
            async with AsyncExitStack() as held:
                await held.enter_async_context(connection.used())
                call = _Call(lease, connection)
                held.callback(call.cancel)
                if await call.step(pb.ReceiveSourceRequest(header=self._header), _STEP_S):
                    self._call = call
                    self._held.push_async_exit(held.pop_all())
                    return call
        raise ClusterUnavailable(f"{lease} was lost {_TRIES} times; its pod's log may say why")

    async def _close(self) -> None:
        self._call = None
        await self._held.aclose()


class _Call:
    """One ReceiveSource call."""

    def __init__(self, lease: Lease, connection: Connection) -> None:
        self.lease = lease
        self._connection = connection
        self._call = connection.stub.ReceiveSource(metadata=connection.metadata, timeout=_UPLOAD_S)

    async def step(self, request: pb.ReceiveSourceRequest, limit_s: float) -> bool:
        """Have a step done; False when the gateway is gone. Raises what went wrong with it."""
        try:
            async with asyncio.timeout(limit_s):
                if not await self._write(request):
                    return False
                answer = await self._call.read()
        except TimeoutError as error:
            raise ClusterUnavailable(
                f"{self.lease}: a step of the upload took more than {limit_s:g} s; send it again"
            ) from error
        except grpc.aio.AioRpcError as error:
            await check_lost(self.lease, self._connection, error)
            return False
        if answer is grpc.aio.EOF:  # type: ignore[attr-defined]
            raise ClusterUnavailable(f"{self.lease}: it ended the upload early; send it again")
        return True

    async def _write(self, request: pb.ReceiveSourceRequest) -> bool:
        """Send a message; False when the connection breaks at it."""
        # A call that has ended takes no message; reading tells how it ended.
        with suppress(asyncio.InvalidStateError):
            try:
                await self._call.write(request)
            except grpc.aio.AioRpcError as error:
                # This is all that gRPC says of a message that it cannot send.
                if error.code() is not grpc.StatusCode.INTERNAL:
                    raise
                await self.lease.lost(self._connection)
                return False
        return True

    def cancel(self) -> None:
        """End the call; changes nothing when it has ended."""
        self._call.cancel()
