"""Wires the service together and runs it until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from protos import keepalive
from serving import rpc
from serving.answers import Answers
from serving.http import HttpDoor
from serving.lane import Limits
from serving.roster import Load, Roster

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """base: the folder of models, see serving.folders. http_port, grpc_port: 0 is any free one.

    keep: newest versions of each model that are served. poll_s: how often the folders are looked
    at. drain_s: how long, once it is told to end, the service still answers while it says that
    it is not ready: whoever spreads requests needs that to notice. grace_s: how long requests
    that are here then may take. max_bytes: of a request.
    """

    base: Path
    host: str = "127.0.0.1"
    http_port: int = 8501
    grpc_port: int = 8500
    keep: int = 1
    poll_s: float = 1.0
    drain_s: float = 0.0
    grace_s: float = 30.0
    max_bytes: int = 64 << 20
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the doors are: HOST:PORT."""

    http: str
    grpc: str


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, load: Load, hurry: asyncio.Event | None = None
) -> AsyncIterator[Addresses]:
    """Serve for as long as the block runs; leaving it drains. `hurry` cuts drain_s short.

    Raises OSError if an address cannot be listened at, or the base folder not be read.
    """
    with ThreadPoolExecutor(settings.limits.parallel, thread_name_prefix="predict") as threads:
        roster = Roster(
            settings.base, load, keep=settings.keep, limits=settings.limits, threads=threads
        )
        answers = Answers(roster)
        door = HttpDoor(answers, max_bytes=settings.max_bytes, grace_s=settings.grace_s)
        server = grpc.aio.server(options=_options(settings))
        rpc.add_to(server, answers)
        healthy = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        addresses = await _listen(settings, door, server)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(_follow(roster, healthy, settings.poll_s))
            try:
                yield addresses
            finally:
                await healthy.enter_graceful_shutdown()
                door.draining = True
                await _wait(hurry or asyncio.Event(), settings.drain_s)
                following.cancel()
                await asyncio.gather(server.stop(settings.grace_s), door.stop())


async def _wait(event: asyncio.Event, at_most_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), at_most_s)


async def _listen(settings: Settings, door: HttpDoor, server: grpc.aio.Server) -> Addresses:
    try:
        port = server.add_insecure_port(f"{settings.host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise OSError(f"{settings.host}:{settings.grpc_port}: {error}") from error
    http = await door.start(settings.host, settings.http_port)
    await server.start()
    return Addresses(http, f"{settings.host}:{port}")


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # Answers may be larger than questions; the client says how much it takes.
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", settings.max_bytes),
        ("grpc.so_reuseport", 0),
        *keepalive.pinged(),
    ]


async def _follow(roster: Roster, healthy: Any, poll_s: float) -> None:
    """Keep the roster in step with the disk, and say when it can be asked."""
    status = health_pb2.HealthCheckResponse.ServingStatus
    await _say(healthy, status.NOT_SERVING)
    while True:
        try:
            await roster.refresh()
        except OSError as error:
            # What is loaded is served; the folder may come back.
            _log.warning("the models cannot be looked at: %s", error)
        if roster.ready:
            await _say(healthy, status.SERVING)
        await asyncio.sleep(poll_s)


async def _say(healthy: Any, status: int) -> None:
    for name in ("", rpc.PREDICTION, rpc.MODEL):
        await healthy.set(name, status)
