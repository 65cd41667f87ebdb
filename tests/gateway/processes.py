"""Gateways as processes of this machine: the pods of the tests."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from controller.access import certificates
from controller.errors import ClusterUnavailable
from controller.gateway.connection import Gateway

# Bounds how long a broken test takes; nothing waits for it when all is well.
BOUND_S = 90
_NAME = "taas-gateway-test"
_SERVING = re.compile(r"serving .* at (\S+)\n")


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition of this process or this machine holds."""
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110  files and processes set no asyncio.Event
            await asyncio.sleep(0.005)


def certificate_in(folder: Path) -> tuple[Path, Path, bytes]:
    """Make a gateway's certificate and key in a folder; return them and who vouches for them."""
    now = datetime.now(UTC)
    authority = certificates.make_authority("test", now=now, days=1)
    made = certificates.make(authority, [_NAME], now=now, days=1)
    certificate, key = (folder / f"{kind}-{uuid.uuid4().hex}" for kind in ("crt", "key"))
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    return certificate, key, made.authority


class GatewayProcess:
    """A `python -m controller.gateway` over a root; its token and its log lie in the folder."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.secret = uuid.uuid4().hex
        self.token = folder / f"token-{self.secret}"
        self.token.write_text(self.secret + "\n")
        self._log = folder / f"log-{self.secret}"
        certificate, key, self.authority = certificate_in(folder)
        # Nobody asks there; the kernel finds a free port.
        health = "127.0.0.1:0"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "controller.gateway", f"--root={root}"),
                    *("--listen=127.0.0.1:0", f"--token-file={self.token}"),
                    *(f"--certificate={certificate}", f"--key={key}", f"--health={health}"),
                ],
                stderr=log,
            )

    @property
    def log(self) -> str:
        """What the process has logged so far."""
        return self._log.read_text()

    def runs(self) -> bool:
        """Say whether the process has not ended."""
        return self.process.poll() is None

    async def gateway(self) -> Gateway:
        """Wait until the process serves, and return where and with which token."""
        await until(lambda: _SERVING.search(self.log) or not self.runs())
        serving = _SERVING.search(self.log)
        assert serving, self.log
        return Gateway(serving[1], self.secret, _NAME, self.authority)

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send the process a signal, wait until it has ended and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(BOUND_S)


class ProcessPods:
    """The GatewayPods of the tests: every gateway a process, all over one root.

    Tests may hold starts back, have them fail, and see what was asked for.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self.running: dict[tuple[str, str], GatewayProcess] = {}
        self.started = 0
        self.deleted: list[tuple[str, str]] = []
        self.asked = 0
        self.held: set[tuple[str, str]] = set()
        self.refuse: Exception | None = None
        self.refuse_delete: ClusterUnavailable | None = None
        self.on_delete: Callable[[], Awaitable[None]] | None = None
        self._released = asyncio.Event()

    async def ensure(self, namespace: str, claim: str) -> Gateway:
        """Return the gateway, started if there is none. A dead one is taken for a living one, as
        a cluster does for a moment."""
        self.asked += 1
        if self.refuse is not None:
            raise self.refuse
        key = (namespace, claim)
        while key in self.held:
            self._released.clear()
            await self._released.wait()
        if key not in self.running:
            self.running[key] = GatewayProcess(self._root, self._folder)
            self.started += 1
        return await self.running[key].gateway()

    def release(self, namespace: str, claim: str) -> None:
        """Let a start go on that was held back."""
        self.held.discard((namespace, claim))
        self._released.set()

    async def trouble(self, namespace: str, claim: str) -> str:
        """Say why a gateway is not ready."""
        return f'Unschedulable: persistentvolumeclaim "{claim}" not found'

    async def delete(self, namespace: str, claim: str) -> None:
        """Kill the gateway."""
        if self.refuse_delete is not None:
            raise self.refuse_delete
        if self.on_delete is not None:
            await self.on_delete()
        self.deleted.append((namespace, claim))
        process = self.running.pop((namespace, claim), None)
        if process is not None:
            process.end()

    async def existing(self) -> tuple[tuple[str, str], ...]:
        """Return which gateways there are."""
        return tuple(self.running)

    def close(self) -> None:
        """End all processes."""
        for process in self.running.values():
            process.end()
