"""Holds the port that a worker's trainer will listen at."""

from __future__ import annotations

import ipaddress
import socket

# Peers on the same machine reach a worker here when nothing else is known.
_LOCAL = "127.0.0.1"


class Reservation:
    """A port that nobody else gets until it is released.

    TensorFlow can listen at it all the same: both sides set SO_REUSEADDR, and this one never
    listens. It is bound on all interfaces, because TensorFlow listens on all.
    """

    def __init__(self, pod_ip: str) -> None:
        """`pod_ip` is where peers reach this worker; empty means on this machine. Raises
        ValueError if it is no IP address."""
        ip = ipaddress.ip_address(pod_ip or _LOCAL)
        family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.bind(("", 0))
        # Set only now: with it, the bind above might be given a port that another worker of
        # this machine holds in the same way.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host = f"[{ip}]" if ip.version == 6 else str(ip)
        self.address = f"{host}:{self._socket.getsockname()[1]}"

    def release(self) -> None:
        """Let the port go. May be called twice."""
        self._socket.close()
