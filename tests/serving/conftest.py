"""A service for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serving.lane import Limits
from serving.server import Settings
from tests.serving.models import Models, put
from tests.serving.world import World, running, until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a service that has version 1 of the model m, which multiplies by 2."""
    put(tmp_path, "m", 1, "2")
    limits = Limits(most_rows=8, parallel=1, most_waiting=20)
    return Settings(
        tmp_path, http_port=0, grpc_port=0, poll_s=0.01, max_bytes=100_000, limits=limits
    )


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    """A service that is ready."""
    models = Models()
    async with running(settings, models) as world:
        try:
            await until(lambda: ready(world))
            yield world
        finally:
            models.go.set()


async def ready(world: World) -> bool:
    """Tell whether the service says that it is ready."""
    status, _ = await world.http("GET", "/readyz")
    return status == 200
