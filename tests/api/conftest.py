"""Fixtures of the API tests."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.api.world import World, served


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="taas-") as path:
        yield Path(path)


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[World]:
    """A served controller."""
    async with served(folder) as world:
        yield world
