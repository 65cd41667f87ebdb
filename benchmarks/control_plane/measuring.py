"""The measurements, one method each; all of them on one plane, which grows."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import psutil

from benchmarks.control_plane.client import Client
from benchmarks.control_plane.figures import Delays, Told, bound, rates
from benchmarks.control_plane.processes import Metrics, Plane, cpu_s, memory_mib
from benchmarks.control_plane.watchers import Watchers
from benchmarks.rates import Spread

_PASS, _LATE = "taas_pass_seconds", "taas_pass_delay_seconds"
# Until what was asked for has come about; beyond the knee it may never.
_BOUND_S = 180.0
_LOOK_EVERY_S = 0.5
_SUBMIT_BLOCK = 250
_PROBE_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Used:
    """What processes used in a while: shares of a core, and the controller's memory."""

    controller: float
    agents: float
    measuring: float
    memory_mib: float
    load_average: float


@dataclass(frozen=True, slots=True)
class Submits:
    """Jobs that were submitted: how many a second, at the first and the last of them."""

    jobs: int
    per_s: Spread
    first_per_s: float
    last_per_s: float
    memory_mib: float


@dataclass(frozen=True, slots=True)
class Load:
    """The plane with so many jobs running.

    agents: connected in the end. carried_out: from the call that cancels a held job until its
    watcher knows. late_p99_s, pass_p99_s: bounds of how late passes came and how long they took.
    restarts: of trainings, of which there should be none.
    """

    running: int
    agents: int
    settled_s: float
    used: Used
    carried_out: Delays
    passes_per_s: float
    late_p99_s: float
    pass_p99_s: float
    restarts: int


@dataclass(frozen=True, slots=True)
class Watched:
    """So many watchers of so many jobs."""

    jobs: int
    watchers: int
    told: Told
    used: Used


@dataclass(frozen=True, slots=True)
class Restart:
    """Seconds from the death of the controller until it answers, all agents are back, all jobs
    were looked at, and all watchers were told something new. told: in all that time and after."""

    agents: int
    watchers: int
    answers_s: float
    agents_s: float
    jobs_s: float
    watchers_s: float
    restarts: int
    lost_jobs: int
    told: Told
    memory_mib: float


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the plane becomes: jobs submitted, of them running, workers of each; how often it
    is looked at while it grows, and how many seconds each look takes."""

    jobs: int
    running: int
    workers: int
    looks: int
    seconds: float

    @property
    def probes(self) -> int:
        """How many held jobs are cancelled in one look."""
        return min(int(self.seconds / _PROBE_EVERY_S), (self.jobs - self.running) // self.looks)


class Using:
    """What the processes use from now on."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._processes = (plane.controller, *plane.agents, psutil.Process())
        self._before = self._used()
        self._began = time.perf_counter()

    def _used(self) -> list[float]:
        return [cpu_s(process) for process in self._processes]

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        return time.perf_counter() - self._began

    def used(self) -> Used:
        """Return what was used until now."""
        pairs = zip(self._before, self._used(), strict=True)
        shares = [(after - before) / self.seconds for before, after in pairs]
        memory = memory_mib(self._plane.controller)
        return Used(shares[0], sum(shares[1:-1]), shares[-1], memory, os.getloadavg()[0])


class Bench:
    """What is measured, and how far the plane has grown."""

    def __init__(self, plane: Plane, client: Client, shape: Shape) -> None:
        self._plane = plane
        self._client = client
        self._shape = shape
        self._target = f"unix:{plane.socket}"
        self._jobs = 0
        self._held = iter(range(shape.jobs - 1, shape.running - 1, -1))
        # Jobs that run, the newest last.
        self.running: list[int] = []

    async def submits(self, count: int) -> Submits:
        """Submit more jobs, which are held."""
        held = (await self._metrics()).total("taas_jobs", phase="Suspended")
        began = time.perf_counter()
        moments = sorted(await self._client.submit(range(self._jobs, self._jobs + count)))
        block = min(_SUBMIT_BLOCK, count // 2)
        first, last = moments[block - 1] - began, moments[-1] - moments[-1 - block]
        self._jobs += count
        await self._until(lambda m: m.total("taas_jobs", phase="Suspended") >= held + count)
        memory = memory_mib(self._plane.controller)
        return Submits(count, rates(moments, began, block), block / first, block / last, memory)

    async def load(self, running: int) -> Load:
        """Let so many jobs run in all, and look at the plane then."""
        began = time.perf_counter()
        more = range(len(self.running), running)
        await self._client.resume(more)
        self.running += more
        agents = running * self._shape.workers
        await self._until(
            lambda m: (
                m.total("taas_jobs", phase="Running") >= running
                and m.total("taas_agents") >= agents
            )
        )
        settled_s = time.perf_counter() - began
        await asyncio.sleep(self._shape.seconds / 3)
        before, using = await self._metrics(), Using(self._plane)
        carried_out = await self._probes()
        used, seconds = using.used(), using.seconds
        after = await self._metrics()
        passes = after.total(f"{_PASS}_count") - before.total(f"{_PASS}_count")
        return Load(
            running=running,
            agents=int(after.total("taas_agents")),
            settled_s=settled_s,
            used=used,
            carried_out=Delays.of(carried_out),
            passes_per_s=passes / seconds,
            late_p99_s=_p99(_LATE, before, after),
            pass_p99_s=_p99(_PASS, before, after),
            restarts=int(after.total("taas_restarts_total")),
        )

    async def watch(self, jobs: Sequence[int], count: int) -> Watched:
        """Have so many watchers share jobs that run."""
        watchers = Watchers([jobs[number % len(jobs)] for number in range(count)])
        async with watchers.watching(self._target):
            await asyncio.sleep(self._shape.seconds / 3)
            watchers.forget()
            using = Using(self._plane)
            await asyncio.sleep(self._shape.seconds)
            used, seconds = using.used(), using.seconds
        return Watched(len(jobs), count, watchers.told(seconds), used)

    async def restart(self, watched: Sequence[int]) -> Restart:
        """Kill the controller while jobs are watched, one watcher each, and start it again."""
        watchers = Watchers(watched)
        agents = len(self.running) * self._shape.workers
        async with watchers.watching(self._target):
            watchers.forget()
            died = time.perf_counter()

            async def at(happens: Awaitable[None]) -> float:
                await happens
                return time.perf_counter() - died

            self._plane.kill()
            self._plane.start()
            now = time.time()
            moments = await asyncio.gather(
                at(self._client.answered()),
                at(self._until(lambda m: m.total("taas_agents") >= agents)),
                at(self._until(lambda m: m.total(f"{_PASS}_count") >= self._jobs)),
                at(watchers.heard_by_all(since=now)),
            )
            await asyncio.sleep(self._shape.seconds)
            seconds = time.perf_counter() - died
        jobs = await self._client.jobs()
        return Restart(
            agents,
            len(watched),
            *moments,
            restarts=sum(job.status.restarts for job in jobs),
            lost_jobs=self._jobs - len(jobs),
            told=watchers.told(seconds),
            memory_mib=memory_mib(self._plane.controller),
        )

    async def _probes(self) -> list[float]:
        """Cancel jobs that are held, one after the other at an even pace."""
        async with asyncio.TaskGroup() as group:
            probes = []
            for number in islice(self._held, self._shape.probes):
                probes.append(group.create_task(self._client.time_cancel(number)))
                await asyncio.sleep(_PROBE_EVERY_S)
        return [probe.result() for probe in probes]

    async def _metrics(self) -> Metrics:
        return await asyncio.to_thread(self._plane.metrics)

    async def _until(self, condition: Callable[[Metrics], bool]) -> None:
        """Return when the metrics meet a condition, or after a bound."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_BOUND_S):
                while True:
                    # A controller that has just been started has none yet.
                    with suppress(OSError):
                        if condition(await self._metrics()):
                            return
                    await asyncio.sleep(_LOOK_EVERY_S)


def _p99(name: str, before: Metrics, after: Metrics) -> float:
    return bound(before.buckets(name), after.buckets(name), 0.99)
