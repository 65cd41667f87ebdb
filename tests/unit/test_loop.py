"""The loop shares its thread with everybody who calls, and trusts no clock that jumped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from controller.live import Live
from controller.local.storage import FolderStorage
from controller.loop import Loop, WorkQueue, World, reconcile
from controller.metrics import Metrics
from controller.model import Job, LogEntry, Phase, Status
from controller.refusals import Refusals
from controller.render import PodSettings
from controller.wakefulness import Wake
from controller.workers import Workers
from tests.builders import T0, agent, at, running
from tests.contracts.jobs import a_job
from tests.contracts.worlds import manifest, pod_name
from tests.fakes import FakeCluster, FakeStore


def _loop(store: FakeStore, metrics: Metrics, storage: Path) -> Loop:
    queue = WorkQueue()
    return Loop(_world(store, metrics, storage, queue), queue)


def _world(
    store: FakeStore,
    metrics: Metrics,
    storage: Path,
    queue: WorkQueue,
    *,
    clock: Callable[[], datetime] = lambda: T0,
) -> World:
    live = Live()
    return World(
        store,
        FakeCluster(now=clock),
        FolderStorage(storage),
        Workers(live, queue.add),
        live,
        Refusals(),
        metrics,
        lambda: PodSettings("unix:/nowhere", str(storage)),
        clock=clock,
        wake=Wake(clock, lambda: 0.0),
    )


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


async def test_a_pass_that_comes_first_after_a_break_takes_nobody_for_silent(
    tmp_path: Path,
) -> None:
    store, now = FakeStore(), T0
    world = _world(store, Metrics(), tmp_path, WorkQueue(), clock=lambda: now)
    cluster = world.cluster
    assert isinstance(cluster, FakeCluster)
    job = await store.create(replace(a_job(), status=running()))
    for index in (0, 1):
        await cluster.apply(job, manifest(pod_name(job, index), index, ["true"]))
        cluster.pod_runs(job.key, index)
        uid = cluster.pod(job.key, index).seen.uid
        world.workers.connect(job.key, job.uid, agent(index, running=1, pod_uid=uid))
    now = at(3600)
    await reconcile(world, job.key)
    assert (await store.get(job.key)).status.phase is Phase.RUNNING
    world.wake.look()
    now = at(3603)
    world.wake.look()
    now = at(3606)
    await reconcile(world, job.key)
    assert (await store.get(job.key)).status.phase is Phase.RESTARTING
