"""The loop shares its thread with everybody who calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from controller.live import Live
from controller.local.storage import FolderStorage
from controller.loop import Loop, WorkQueue, World
from controller.metrics import Metrics
from controller.model import Job, LogEntry, Phase, Status
from controller.refusals import Refusals
from controller.render import PodSettings
from controller.workers import Workers
from tests.builders import T0, running
from tests.contracts.jobs import a_job
from tests.fakes import FakeCluster, FakeStore


def _loop(store: FakeStore, metrics: Metrics, storage: Path) -> Loop:
    live, queue = Live(), WorkQueue()
    world = World(
        store,
        FakeCluster(),
        FolderStorage(storage),
        Workers(live, queue.add),
        live,
        Refusals(),
        metrics,
        lambda: PodSettings("unix:/nowhere", str(storage)),
        clock=lambda: T0,
        since=T0,
    )
    return Loop(world, queue)


async def test_others_have_their_turns_between_passes_that_write_nothing(tmp_path: Path) -> None:
    store, metrics = FakeStore(), Metrics()
    jobs = 200
    for number in range(jobs):
        status = replace(running(), phase=Phase.SUCCEEDED)
        await store.create(replace(a_job(f"job-{number}"), status=status))
    looping, turns = asyncio.create_task(_loop(store, metrics, tmp_path).run()), 0
    try:
        async with asyncio.timeout(60):
            while metrics.registry.get_sample_value("taas_pass_seconds_count") != jobs:
                await asyncio.sleep(0)
                turns += 1
    finally:
        looping.cancel()
    assert turns >= jobs


class _Told(Metrics):
    """Says when the first pass is over."""

    def __init__(self) -> None:
        super().__init__()
        self.first = asyncio.Event()

    def passed(self, late_s: float, seconds: float) -> None:
        """Take in that a job was looked at."""
        super().passed(late_s, seconds)
        self.first.set()


class _Slow(FakeStore):
    """A disk that takes as many writes at once as come, and none before so many wait for it."""

    def __init__(self, together: int) -> None:
        super().__init__()
        self._barrier = asyncio.Barrier(together)

    async def put_status(self, job: Job, status: Status, entries: Sequence[LogEntry]) -> Job:
        await self._barrier.wait()
        return await super().put_status(job, status, entries)


async def test_passes_wait_for_the_store_together(tmp_path: Path) -> None:
    together = 20
    store, metrics = _Slow(together), _Told()
    for number in range(together):
        await store.create(a_job(f"job-{number}"))
    looping = asyncio.create_task(_loop(store, metrics, tmp_path).run())
    try:
        async with asyncio.timeout(60):
            await metrics.first.wait()
    finally:
        looping.cancel()
