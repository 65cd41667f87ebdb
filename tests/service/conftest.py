"""Fixtures of the service tests, and their mark."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.world import Service


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.service)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A running service, for all tests of a module: their jobs have names of their own."""
    service = Service(Path(tempfile.mkdtemp(prefix="taas-")))
    service.start()
    yield service
    service.close()
