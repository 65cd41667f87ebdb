"""Wires the controller together and serves it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from controller.access.guard import Guard
from controller.access.ports import Access
from controller.access.turns import Turns
from controller.collector import collect
from controller.errors import ClusterRefused
from controller.history import History
from controller.limits import Limits
from controller.live import Live
from controller.logs import Logs
from controller.loop import Loop, WorkQueue, World
from controller.metrics import Metrics, listening
from controller.ports import Cluster, JobStore, Storage
from controller.refusals import Refusals
from controller.render import PodSettings
from controller.service import TrainingService
from controller.wakefulness import Wake
from controller.wire_errors import ErrorInterceptor
from controller.worker_service import WorkerService
from controller.workers import Workers
from protos import keepalive
from protos.taas.v1 import (
    training_service_pb2,
    training_service_pb2_grpc,
    worker_service_pb2_grpc,
)

_log = logging.getLogger(__name__)

# Seconds that calls in flight get when the controller stops; streams resume by cursor.
_STOP_GRACE_S = 1.0
# The largest message of a caller, and of a worker: of one that has come in part gRPC holds what has
# come. A chief's heartbeat has a few hundred bytes, a part of a log 64 KiB.
_CALLERS_BYTES = 4 * 1024 * 1024
_WORKERS_BYTES = 256 * 1024
_OPTIONS = [
    ("grpc.so_reuseport", 0),
    *keepalive.pinged(),
    # Of a message that nobody reads yet 64 KiB are taken in, not the megabytes that a fast network
    # makes gRPC ready for; once it is read, room is made for the whole of it.
    ("grpc.http2.bdp_probe", 0),
    # Of one connection; more calls of a client wait at the client.
    ("grpc.max_concurrent_streams", 256),
    # Who connects and says nothing is not waited for.
    ("grpc.server_handshake_timeout_ms", 20_000),
]


def utc_now() -> datetime:
    """Return the time; all that the controller dates, it dates by this clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a server listens. address: unix:PATH, for the owner of the socket alone, or
    HOST:PORT, which takes credentials: nothing is said over a network in the clear."""

    address: str
    credentials: grpc.ServerCredentials | None = None

    def add_to(self, server: grpc.aio.Server) -> str:
        """Bind and return the address as it is: any free port for 0. Raises ClusterRefused; a
        socket left by a dead controller is replaced."""
        try:
            if self.address.startswith("unix:"):
                path = Path(self.address.removeprefix("unix:"))
                path.unlink(missing_ok=True)
                server.add_insecure_port(self.address)
                path.chmod(0o600)
                return self.address
            if self.credentials is None:
                raise ClusterRefused(f"{self.address}: a port needs a certificate; give it one")
            host, _, _ = self.address.rpartition(":")
            return f"{host}:{server.add_secure_port(self.address, self.credentials)}"
        except (OSError, RuntimeError) as error:
            raise ClusterRefused(f"{self.address}: cannot be listened at: {error}") from error


class Addresses(NamedTuple):
    """Where the service is reached: by callers, and by workers.

    Two servers, since a server has one limit for all messages: workers are listened to at all
    times, and what they say is short.
    """

    callers: str
    workers: str


@asynccontextmanager
async def serving(
    callers_at: Listener,
    workers_at: Listener,
    store: JobStore,
    cluster: Cluster,
    storage: Storage,
    *,
    access: Access,
    pods: Callable[[], PodSettings],
    info: training_service_pb2.ServiceInfo,
    limits: Limits,
    metrics_address: str = "",
    pings: keepalive.Options | None = None,
) -> AsyncIterator[Addresses]:
    """Serve and reconcile, for as long as the block runs. Gives the addresses as they are.

    metrics_address: HOST:PORT for Prometheus, see metrics.listening.
    pings: how frozen peers are noticed; by default within half a minute.
    Leaving the block ends the service; workers live on and find the next controller.
    """
    live = Live()
    queue = WorkQueue()
    workers = Workers(live, queue.add)
    metrics = Metrics(workers.connected)
    wake = Wake(utc_now, time.monotonic)
    world = World(
        store,
        cluster,
        storage,
        workers,
        live,
        Refusals(),
        metrics,
        pods,
        clock=utc_now,
        wake=wake,
    )
    # Agents may be newer than the controller: an upgrade that was taken back must not end them.
    errors = ErrorInterceptor(strict=[_TRAINING])
    guard = Guard(access, Turns(limits.calls))

    def made(message_bytes: int) -> grpc.aio.Server:
        bound = ("grpc.max_receive_message_length", message_bytes)
        options = [*_OPTIONS, bound, *(pings or keepalive.pings())]
        return grpc.aio.server(interceptors=[errors, guard], options=options)

    server, workers_server = made(_CALLERS_BYTES), made(_WORKERS_BYTES)
    training_service_pb2_grpc.add_TrainingServiceServicer_to_server(
        TrainingService(
            store,
            storage,
            History(store, storage, live),
            Logs(store, storage, live, workers),
            limits=limits,
            info=info,
            clock=utc_now,
        ),
        server,
    )
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(
        WorkerService(workers, store, cluster, utc_now), workers_server
    )
    healthy = _add_standard_services(server)
    addresses = Addresses(callers_at.add_to(server), workers_at.add_to(workers_server))
    async with listening(metrics_address, metrics), asyncio.TaskGroup() as group:
        waking = group.create_task(wake.keep())
        reconciling = group.create_task(Loop(world, queue).run())
        collecting = group.create_task(collect(store, storage, utc_now))
        await asyncio.gather(server.start(), workers_server.start())
        for name in ("", _TRAINING):
            await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving callers at %s, workers at %s", *addresses)
        try:
            yield addresses
        finally:
            await healthy.enter_graceful_shutdown()
            await asyncio.gather(server.stop(_STOP_GRACE_S), workers_server.stop(_STOP_GRACE_S))
            waking.cancel()
            reconciling.cancel()
            collecting.cancel()


_TRAINING = training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name


def _add_standard_services(server: grpc.aio.Server) -> Any:
    healthy = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    names = (_TRAINING, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return healthy
