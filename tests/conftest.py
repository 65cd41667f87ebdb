"""What all tests share: signals as a terminal gives them, and an API server."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.cluster.apiserver import ApiServer


def pytest_configure() -> None:
    """Programs that tests start must hear Ctrl-C, also when the tests run in the background of a
    shell, which has them ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server alone, for all tests of the session."""
    with ApiServer(tmp_path_factory.mktemp("api-server")) as server:
        yield server
