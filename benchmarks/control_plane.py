"""How much one controller carries: jobs, agents, watchers, and a restart with all of them.

    python -m benchmarks.control_plane [--jobs 10000] [--running 1250] [--workers 4]
                                       [--watchers 1000] [--every 5]

A real controller in a process of its own: gRPC, SQLite, reconciling, the workers' streams. Its
pods are lines in a file, and all agents live in one process, each with a connection of its own and
the real agent's code for it; every chief makes a step every --every seconds and writes its record.
All of it, and the measuring clients, share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil

from benchmarks import machine, record
from benchmarks.plane import clients
from benchmarks.plane.controller import SOCKET
from benchmarks.plane.pods import Reading
from benchmarks.rates import percentile

ROOT = Path(__file__).resolve().parent.parent
_CALLERS = 64
# Of a hung program only.
_BOUND_S = 900.0
# How long events are counted.
_LISTEN_S = 20.0
# Held jobs that are let go to see how soon their pods are made.
_RESUMED = 50

Figures = dict[str, float]


class Plane:
    """The two processes, in a folder of their own."""

    def __init__(self, home: Path, every_s: float) -> None:
        """Start nothing yet."""
        self.home, self.target = home, f"unix:{home / SOCKET}"
        self._every_s = every_s
        self._processes = ExitStack()
        self._controller: subprocess.Popen[bytes] | None = None

    def start_controller(self) -> None:
        """Start a controller, and return when it answers."""
        self._controller = self._run("controller", str(self.home))
        with grpc.insecure_channel(self.target) as channel:
            grpc.channel_ready_future(channel).result(_BOUND_S)

    def start_agents(self) -> None:
        """Start what plays the agents."""
        self._run("agents", str(self.home), str(self._every_s))

    def _run(self, module: str, *words: str) -> subprocess.Popen[bytes]:
        log = self._processes.enter_context((self.home / f"{module}.log").open("ab"))
        command = [sys.executable, "-m", f"benchmarks.plane.{module}", *words]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        self._processes.callback(process.wait)
        self._processes.callback(process.kill)
        return process

    def kill_controller(self) -> None:
        """End the controller as a crash does."""
        assert self._controller is not None
        self._controller.kill()
        self._controller.wait()

    @property
    def controller(self) -> psutil.Process:
        """The controller."""
        assert self._controller is not None
        return psutil.Process(self._controller.pid)

    def megabytes(self) -> float:
        """The controller's resident memory."""
        return float(self.controller.memory_info().rss) / 1e6

    def close(self) -> None:
        """End both."""
        self._processes.close()


async def until(holds: Callable[[], Any], what: str) -> None:
    """Return when a condition holds."""
    end = time.monotonic() + _BOUND_S
    while not await holds():
        if time.monotonic() > end:
            raise SystemExit(f"waited {_BOUND_S:.0f} s in vain for {what}")
        await asyncio.sleep(0.2)


async def submits(plane: Plane, arguments: argparse.Namespace) -> tuple[Figures, list[str]]:
    """Store all jobs, most of them held; return the figures, and the jobs that are to run."""
    source = await asyncio.to_thread(clients.upload, plane.target)
    going = [f"run-{n:05d}" for n in range(arguments.running)]
    held = [f"held-{n:05d}" for n in range(arguments.jobs - arguments.running)]
    each = {"callers": _CALLERS, "workers": arguments.workers}
    began = time.monotonic()
    took = await clients.submit(plane.target, source, held, held=True, **each)
    seconds = time.monotonic() - began
    found = {
        "jobs held": len(held),
        "submits a second": len(held) / seconds,
        "submit p50 ms": 1000 * percentile(took, 0.5),
        "submit p99 ms": 1000 * percentile(took, 0.99),
        "controller MB, jobs held": plane.megabytes(),
    }
    began = time.monotonic()
    await clients.submit(plane.target, source, going, held=False, **each)

    async def all_run() -> bool:
        return await clients.running(plane.target) >= len(going)

    await until(all_run, "all jobs to run")
    found["agents"] = len(going) * arguments.workers
    found["seconds until all run"] = time.monotonic() - began
    found["controller MB, all run"] = plane.megabytes()
    return found, going


async def reconciled(plane: Plane) -> Figures:
    """From a client's call to the pod that comes of it, with everything else going on."""
    names = [f"held-{n:05d}" for n in range(_RESUMED)]
    reading = Reading(plane.home)
    reading.more()
    began = await clients.resume(plane.target, names)
    made: dict[str, float] = {}

    async def all_made() -> bool:
        for line in reading.more():
            made.setdefault(line.job, line.at)
        return began.keys() <= made.keys()

    await until(all_made, "pods of the jobs that were let go")
    late = [made[name] - began[name] for name in names]
    return {
        "change to pod p50 ms": 1000 * percentile(late, 0.5),
        "change to pod p99 ms": 1000 * percentile(late, 0.99),
    }


async def watched(plane: Plane, jobs: Sequence[str], what: str) -> Figures:
    """Watch for a while; return how many events came, and how late."""
    watchers = clients.Watchers(jobs)
    task = asyncio.create_task(watchers.run(plane.target))

    async def all_told() -> bool:
        return all(watchers.newest)

    await until(all_told, "every watcher to be told of a step")
    watchers.late_s.clear()
    busy = _cpu_s(plane.controller)
    await asyncio.sleep(_LISTEN_S)
    late = [*watchers.late_s]
    busy = _cpu_s(plane.controller) - busy
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return {
        f"{what}: events a second": len(late) / _LISTEN_S,
        f"{what}: late p50 ms": 1000 * percentile(late, 0.5),
        f"{what}: late p99 ms": 1000 * percentile(late, 0.99),
        f"{what}: controller's share of a core": busy / _LISTEN_S,
        f"{what}: controller MB": plane.megabytes(),
    }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def restarted(plane: Plane, jobs: Sequence[str]) -> Figures:
    """Kill the controller with everything connected, and start another."""
    watchers = clients.Watchers(jobs)
    task = asyncio.create_task(watchers.run(plane.target))

    async def all_told() -> bool:
        return all(watchers.newest)

    await until(all_told, "every watcher to be told of a step")
    plane.kill_controller()
    killed = time.time()
    await asyncio.to_thread(plane.start_controller)
    answers = time.time() - killed

    async def all_again() -> bool:
        return all(newest > killed + answers for newest in watchers.newest)

    await until(all_again, "every watcher to be told of a step since the restart")
    found = {
        "restart: answers after s": answers,
        "restart: every job told of a new step after s": time.time() - killed,
        "restart: controller MB": plane.megabytes(),
    }
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return found


async def measure(plane: Plane, arguments: argparse.Namespace) -> Figures:
    """All of it, one after the other."""
    figures, going = await submits(plane, arguments)
    _show(figures)
    one = [going[0]] * arguments.watchers
    each = going[: arguments.watchers]
    for found in (
        reconciled(plane),
        watched(plane, one, f"{len(one)} watchers of one job"),
        watched(plane, each, f"one watcher on each of {len(each)} jobs"),
        restarted(plane, each),
    ):
        figures |= (more := await found)
        _show(more)
    return figures


def _show(figures: Figures) -> None:
    for what, value in figures.items():
        print(f"{value:12,.1f}  {what}", flush=True)


def main() -> int:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control_plane")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs stored (10,000)")
    parser.add_argument("--running", type=int, default=1250, help="of which so many run (1,250)")
    parser.add_argument("--workers", type=int, default=4, help="workers of each job (4)")
    parser.add_argument("--watchers", type=int, default=1000, help="watchers (1,000)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds of a step (5)")
    arguments = parser.parse_args()
    if arguments.jobs - arguments.running < _RESUMED:
        parser.error(f"--jobs must be --running and {_RESUMED} more, which are let go later")
    about = machine.describe()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="taas-plane-") as folder:
        plane = Plane(Path(folder), arguments.every)
        try:
            plane.start_controller()
            plane.start_agents()
            figures = asyncio.run(measure(plane, arguments))
        finally:
            plane.close()
    took = {"took_s": time.monotonic() - began, "figures": figures}
    record.keep(record.dated("control_plane"), vars(arguments), about, took)
    return 0


if __name__ == "__main__":
    sys.exit(main())
