"""Tells a gateway that is gone from a call that failed for another reason."""

from __future__ import annotations

import grpc

from controller import wire_errors
from controller.errors import ClusterUnavailable
from controller.gateway.connection import Connection
from controller.gateway.pool import Lease

_HEALTH_S = 5.0
_GONE = (
    grpc.StatusCode.UNAVAILABLE,
    # It was told to stop, and ended the call.
    grpc.StatusCode.CANCELLED,
    # Somebody made another token; the next start gets it.
    grpc.StatusCode.UNAUTHENTICATED,
)


async def check_lost(lease: Lease, connection: Connection, error: grpc.aio.AioRpcError) -> None:
    """Return if a call failed because its gateway is gone, once that is told to the pool.

    Otherwise raise what the gateway raised, or ClusterUnavailable when it failed by itself.
    """
    raised = wire_errors.from_rpc(error)
    if raised is not None:
        raise raised from error
    if error.code() in _GONE:
        await lease.lost(connection)
        return
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        # A lost node refuses nothing. A gateway that waits for its disk still says how it is.
        if await connection.trouble(_HEALTH_S):
            await lease.lost(connection)
            return
        why = "the claim's disk does not answer in time; check its server"
    else:
        why = f"it failed ({error.code().name}: {error.details()}); its pod's log says why"
    raise ClusterUnavailable(f"{lease}: {why}") from error
