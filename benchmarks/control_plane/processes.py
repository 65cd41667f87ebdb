"""The processes of the benchmark: how they are started and ended, and what they use."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.addresses import free_addresses

_BOUND_S = 120.0


class Plane:
    """A controller that can be killed and started again, and the simulated agents below it."""

    def __init__(self, folder: Path, shares: int) -> None:
        self.home = folder / "home"
        self.socket, self._workers_socket = folder / "s", folder / "w"
        self.home.mkdir()
        (self._metrics,) = free_addresses(1)
        self._shares = shares
        self._stack = ExitStack()
        self._controller: subprocess.Popen[bytes] | None = None
        self.agents: list[psutil.Process] = []

    def __enter__(self) -> Plane:
        with self._stack:
            self.start()
            self.wait_until_serving()
            for share in range(self._shares):
                of = ("--share", str(share), "--of", str(self._shares))
                agents = self._run("agents", "--socket", str(self._workers_socket), *of)
                self.agents.append(psutil.Process(agents.pid))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start the controller."""
        sockets = ("--socket", str(self.socket), "--workers-socket", str(self._workers_socket))
        self._controller = self._run("controller", *sockets, "--metrics", self._metrics)

    def kill(self) -> None:
        """Kill the controller."""
        assert self._controller is not None
        self._controller.kill()
        self._controller.wait()

    @property
    def controller(self) -> psutil.Process:
        """The controller's process."""
        assert self._controller is not None
        return psutil.Process(self._controller.pid)

    def wait_until_serving(self) -> None:
        """Return when the metrics are served, which come with the rest."""
        bound = time.monotonic() + _BOUND_S
        while time.monotonic() < bound:
            with contextlib.suppress(OSError):
                self.metrics()
                return
            if not self.controller.is_running():
                break
            time.sleep(0.02)
        raise TimeoutError("the controller does not serve")

    def metrics(self) -> Metrics:
        """Ask for the metrics."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=30) as answer:
            return Metrics(answer.read().decode())

    def _run(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"benchmarks.control_plane.{module}"]
        command += ["--home", str(self.home)]
        log = self._stack.enter_context((self.home / f"{module}.log").open("ab"))
        process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log)
        self._stack.enter_context(_ended(process))
        return process


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Metrics:
    """What the controller tells Prometheus, at one moment."""

    def __init__(self, text: str) -> None:
        families = text_string_to_metric_families(text)
        self._samples = [sample for family in families for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with that name and those labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def buckets(self, name: str) -> dict[float, float]:
        """Return how many observations of a histogram lie at or below each bound."""
        return {
            float(sample.labels["le"]): sample.value
            for sample in self._samples
            if sample.name == f"{name}_bucket"
        }


def cpu_s(process: psutil.Process) -> float:
    """Return the seconds of CPU that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def memory_mib(process: psutil.Process) -> float:
    """Return the memory that a process has resident."""
    return float(process.memory_info().rss / 2**20)
