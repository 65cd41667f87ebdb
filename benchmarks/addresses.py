"""Addresses on this machine that programs of a benchmark may listen at."""

from __future__ import annotations

import socket


def free_addresses(number: int) -> list[str]:
    """Return so many addresses of the loopback at which nobody listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for each in sockets:
        each.close()
    return [f"127.0.0.1:{port}" for port in ports]
