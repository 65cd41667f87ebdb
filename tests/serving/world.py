"""A running service with models that need no TensorFlow, and clients of both doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc

from serving.rpc import MODEL, PREDICTION
from serving.server import Addresses, Settings, serving
from tests.serving.models import Models

# Only keeps a broken test from hanging.
BOUND_S = 60.0


@dataclass
class World:
    """A service and clients of it."""

    settings: Settings
    models: Models
    addresses: Addresses
    session: aiohttp.ClientSession
    channel: grpc.aio.Channel
    # Questions whose answers are waited for before the clients close.
    asked: list[asyncio.Task[Any]] = field(default_factory=list)

    async def http(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and body of the answer; a body that is not bytes is sent as JSON."""
        told = {"data" if isinstance(body, bytes) else "json": body}
        url = f"http://{self.addresses.http}{path}"
        async with self.session.request(method, url, **told) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text())

    async def predict(self, value: float, path: str = "/v1/models/m") -> tuple[int, Any]:
        """Ask a model that multiplies about one row."""
        return await self.http("POST", f"{path}:predict", {"instances": [[value, 1]]})

    async def call(self, method: str, request: Any, kind: Any) -> Any:
        """Make a call of the TensorFlow Serving API."""
        service = MODEL if method == "GetModelStatus" else PREDICTION
        content = request if isinstance(request, bytes) else request.SerializeToString()
        return kind.FromString(await self.channel.unary_unary(f"/{service}/{method}")(content))

    async def states(self, name: str = "m") -> dict[str, str]:
        """Return the state of each version of a model."""
        _, body = await self.http("GET", f"/v1/models/{name}")
        return {v["version"]: v["state"] for v in body.get("model_version_status", ())}


@asynccontextmanager
async def running(
    settings: Settings, models: Models, hurry: asyncio.Event | None = None
) -> AsyncIterator[World]:
    """Run a service as long as the block does. Its clients live longer."""
    async with AsyncExitStack() as clients:
        session = await clients.enter_async_context(aiohttp.ClientSession())
        async with serving(settings, models.load, hurry) as addresses:
            channel = grpc.aio.insecure_channel(addresses.grpc)
            await clients.enter_async_context(channel)
            world = World(settings, models, addresses, session, channel)
            yield world
        await asyncio.gather(*world.asked, return_exceptions=True)


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(BOUND_S):
        while not await condition():  # noqa: ASYNC110 (what changes is in another program's hands)
            await asyncio.sleep(0.01)


async def happened(event: Any) -> None:
    """Wait for a threading.Event."""
    assert await asyncio.to_thread(event.wait, BOUND_S)
