"""An API server for the tests of what stands on one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.apiserver import ApiServer


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server alone, for all tests of the session."""
    with ApiServer(tmp_path_factory.mktemp("api-server")) as server:
        yield server
