"""A real controller process under callers that mean it no good."""

from __future__ import annotations

import os
import resource
import selectors
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

import taas
from tests.service.world import Service, until

CONNECTIONS = 5000
# What a client of HTTP/2 begins with, and empty settings.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
MEBI = 1024 * 1024


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the test's own ends of the connections."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
def test_thousands_of_idle_connections_cost_little_and_stop_nobody(service: Service) -> None:
    path = service.target.removeprefix("unix:")
    until(lambda: os.path.exists(path), "the service")
    client = service.client()
    assert client.service_info().version
    assert service.controller is not None
    controller = psutil.Process(service.controller.pid)
    before = controller.memory_info().rss
    held = []
    try:
        with selectors.DefaultSelector() as answers:
            for _ in range(CONNECTIONS):
                one = socket.socket(socket.AF_UNIX)
                one.connect(path)
                one.sendall(HELLO)
                held.append(one)
                answers.register(one, selectors.EVENT_READ)
            # Each of them is a connection that the service has answered.
            for one in held:
                one.settimeout(60)
                assert one.recv(9), "the service hung up"
        assert len(list(client.list())) == 0
        with taas.Client(service.target) as newcomer:
            assert newcomer.service_info().version
        grown = controller.memory_info().rss - before
        # Nothing is kept for a connection but its buffers.
        assert grown < CONNECTIONS * 100 * 1024, f"{grown / MEBI:.0f} MiB"
    finally:
        for one in held:
            one.close()
    assert client.service_info().version


def test_another_user_of_the_machine_cannot_call(service: Service) -> None:
    path = service.target.removeprefix("unix:")
    until(lambda: os.path.exists(path), "the service")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    for name in ("state.db", "pods.key"):
        assert not stat.S_IMODE((service.home / name).stat().st_mode) & 0o077, name
    if os.geteuid() == 0:
        program = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
        # As nobody, and with the folder open to all: the socket itself is what keeps him out.
        service.home.chmod(0o755)
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-S", "-c", program],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "PermissionError" in done.stderr
