"""Gateways are started once, replaced when they are lost, and removed when they are idle."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controller.errors import ClusterRefused, ClusterUnavailable
from controller.gateway.pool import ClaimMissing, GatewayPool, Times
from controller.gateway.storage import GatewayStorage
from controller.model import DEFAULT_CLAIM, Job
from tests.contracts.jobs import a_job
from tests.gateway.processes import BOUND_S, ProcessPods, until

PLACE = ("default", DEFAULT_CLAIM)
OTHER = ("other", DEFAULT_CLAIM)
# So short that a start which is held back is late at once.
IMPATIENT = Times(start_s=0.01, backoff_s=0.001)
# Sweeps are asked for by the tests.
TIMES = Times(idle_s=100, sweep_s=10 * BOUND_S, backoff_s=0.001)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def pooled(
    pods: ProcessPods, times: Times = TIMES, clock: Clock | None = None
) -> AsyncIterator[tuple[GatewayPool, GatewayStorage]]:
    async with GatewayPool(pods, times=times, clock=clock or Clock()) as pool:
        yield pool, GatewayStorage(pool)


# --- Starts


async def test_many_calls_share_one_start(pods: ProcessPods, job: Job) -> None:
    pods.held = {PLACE}
    async with pooled(pods) as (_, storage), asyncio.TaskGroup() as group:
        calls = [group.create_task(storage.log_size(job, n)) for n in range(100)]
        await until(lambda: pods.asked)
        pods.release(*PLACE)
        for call in calls:
            assert await call == 0
    assert (pods.asked, pods.started) == (1, 1)


async def test_a_caller_that_leaves_does_not_end_the_start(pods: ProcessPods, job: Job) -> None:
    pods.held = {PLACE}
    async with pooled(pods) as (_, storage), asyncio.TaskGroup() as group:
        first = group.create_task(storage.log_size(job, 0))
        await until(lambda: pods.asked)
        second = group.create_task(storage.log_size(job, 0))
        first.cancel()
        pods.release(*PLACE)
        assert await second == 0
    assert pods.asked == 1


async def test_a_start_that_takes_too_long_tells_the_pods_reason(
    pods: ProcessPods, job: Job
) -> None:
    pods.held = {PLACE}
    async with pooled(pods, IMPATIENT) as (_, storage):
        for _ in range(3):
            with pytest.raises(ClusterUnavailable, match="Unschedulable") as caught:
                await storage.log_size(job, 0)
        assert str(caught.value) == (
            "the storage gateway for claim taas-storage in namespace default is not ready after "
            '0.01 s: Unschedulable: persistentvolumeclaim "taas-storage" not found; look at it '
            "with kubectl -n default describe pvc,pod"
        )
        assert pods.asked == 1  # and the start goes on
        pods.release(*PLACE)
        await until(lambda: pods.started)
        await answered(storage, job)
    assert pods.asked == 1


async def answered(storage: GatewayStorage, job: Job) -> None:
    """Wait until the storage answers."""
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                await storage.log_size(job, 0)
                return
            except ClusterUnavailable:
                await asyncio.sleep(0.01)


async def test_a_claim_that_cannot_be_served_holds_up_no_other(pods: ProcessPods, job: Job) -> None:
    pods.held = {PLACE}
    async with pooled(pods) as (_, storage), asyncio.TaskGroup() as group:
        stuck = [group.create_task(storage.log_size(job, 0)) for _ in range(100)]
        await until(lambda: pods.asked)
        assert await storage.log_size(a_job(namespace="other"), 0) == 0
        assert not any(call.done() for call in stuck)
        for call in stuck:
            call.cancel()


@pytest.mark.parametrize(
    "refusal", [ClusterRefused("exceeded quota: pods"), ClusterUnavailable("no API server")]
)
async def test_a_refusal_is_told_and_the_next_call_tries_again(
    pods: ProcessPods, job: Job, refusal: Exception
) -> None:
    pods.refuse = refusal
    async with pooled(pods) as (_, storage):
        with pytest.raises(type(refusal), match=str(refusal)):
            await storage.log_size(job, 0)
        pods.refuse = None
        assert await storage.log_size(job, 0) == 0


async def test_files_of_a_missing_claim_are_gone(pods: ProcessPods, job: Job) -> None:
    pods.refuse = ClaimMissing("claim taas-storage does not exist in namespace default")
    async with pooled(pods) as (_, storage):
        await storage.delete_job(job)
        await storage.collect_sources(*PLACE, frozenset())
        with pytest.raises(ClusterUnavailable, match="does not exist"):
            await storage.log_size(job, 0)


async def test_a_ready_pod_that_does_not_answer_is_replaced(pods: ProcessPods, job: Job) -> None:
    gateway = await pods.ensure(*PLACE)
    pods.running[PLACE].end()
    async with pooled(pods) as (_, storage):
        assert await storage.log_size(job, 0) == 0
    assert await pods.running[PLACE].gateway() != gateway
    assert (pods.started, pods.deleted) == (2, [PLACE])


async def test_a_gateway_with_another_token_is_replaced(pods: ProcessPods, job: Job) -> None:
    async with pooled(pods) as (_, storage):
        assert await storage.log_size(job, 0) == 0
        pods.running[PLACE].token.write_text("another")
        assert await storage.log_size(job, 0) == 0
    assert (pods.started, pods.deleted) == (2, [PLACE])


async def test_one_that_does_not_answer_is_named_when_time_is_up(
    pods: ProcessPods, job: Job
) -> None:
    gateway = await pods.ensure(*PLACE)
    pods.running[PLACE].token.write_text("another")

    async def hold() -> None:
        pods.held = {PLACE}

    pods.on_delete = hold
    async with pooled(pods, IMPATIENT) as (_, storage):
        with pytest.raises(ClusterUnavailable):
            await storage.log_size(job, 0)
        await until(lambda: pods.deleted)
        with pytest.raises(ClusterUnavailable, match=f"{gateway.address}: UNAUTHENTICATED"):
            await storage.log_size(job, 0)


# --- Idle ones


async def test_an_idle_gateway_is_removed_and_comes_back(pods: ProcessPods, job: Job) -> None:
    clock = Clock()
    async with pooled(pods, clock=clock) as (pool, storage):
        await storage.log_size(job, 0)
        await storage.log_size(a_job(namespace="other"), 0)
        clock.now += 99
        await storage.log_size(job, 0)
        await pool.sweep()
        assert pods.deleted == []
        clock.now += 1
        await pool.sweep()
        assert pods.deleted == [OTHER]
        clock.now += 99
        await pool.sweep()
        assert pods.deleted == [OTHER, PLACE]
        assert await storage.log_size(job, 0) == 0
    assert pods.started == 3


async def test_a_gateway_in_use_is_not_idle(pods: ProcessPods) -> None:
    data = b"x" * 1000
    clock = Clock()
    async with pooled(pods, clock=clock) as (pool, storage):
        writer = storage.open_source(*PLACE, hashlib.sha256(data).hexdigest(), len(data))
        await writer.write(data[:10])
        clock.now += 1000
        await pool.sweep()
        assert pods.deleted == []
        await writer.write(data[10:])
        await writer.commit()
        await pool.sweep()
        assert pods.deleted == []
        clock.now += 100
        await pool.sweep()
    assert pods.deleted == [PLACE]


@pytest.mark.parametrize("end", ["abort", "error"])
async def test_an_upload_that_ended_uses_its_gateway_no_more(pods: ProcessPods, end: str) -> None:
    clock = Clock()
    async with pooled(pods, clock=clock) as (pool, storage):
        writer = storage.open_source(*PLACE, "a" * 64, 10)
        await writer.write(b"x")
        if end == "abort":
            await writer.abort()
        else:
            pods.running[PLACE].end()
            with pytest.raises(ClusterUnavailable):
                await writer.commit()
        clock.now += 100
        await pool.sweep()
    assert pods.deleted == [PLACE]


async def test_a_call_that_comes_while_the_gateway_is_removed_gets_another(
    pods: ProcessPods, job: Job
) -> None:
    clock = Clock()
    async with pooled(pods, clock=clock) as (pool, storage), asyncio.TaskGroup() as group:
        await storage.log_size(job, 0)
        calls: list[asyncio.Task[int]] = []

        async def call() -> None:
            calls.append(group.create_task(storage.log_size(job, 0)))
            await asyncio.sleep(0)

        pods.on_delete = call
        clock.now += 100
        await pool.sweep()
        assert await calls[0] == 0
        assert await storage.log_size(job, 0) == 0
    assert (pods.started, pods.deleted) == (2, [PLACE])


async def test_a_gateway_that_cannot_be_removed_is_tried_again(pods: ProcessPods, job: Job) -> None:
    clock = Clock()
    async with pooled(pods, clock=clock) as (pool, storage):
        await storage.log_size(job, 0)
        clock.now += 100
        pods.refuse_delete = ClusterUnavailable("no API server")
        await pool.sweep()
        assert PLACE in pods.running
        pods.refuse_delete = None
        await pool.sweep()
    assert pods.deleted == [PLACE]


async def test_a_start_that_nobody_waits_for_any_more_is_ended(pods: ProcessPods, job: Job) -> None:
    pods.held = {PLACE}
    clock = Clock()
    async with pooled(pods, Times(start_s=0.01, idle_s=100), clock) as (pool, storage):
        with pytest.raises(ClusterUnavailable):
            await storage.log_size(job, 0)
        clock.now += 100
        await pool.sweep()
        assert pods.deleted == [PLACE]
        pods.release(*PLACE)
        await answered(storage, job)
    assert pods.asked == 2


async def test_gateways_of_a_former_controller_are_used_and_removed(
    pods: ProcessPods, job: Job
) -> None:
    await pods.ensure(*PLACE)
    await pods.ensure(*OTHER)
    clock = Clock()
    times = Times(idle_s=100, sweep_s=0.01)
    async with pooled(pods, times, clock) as (_, storage):
        assert await storage.log_size(job, 0) == 0
        clock.now += 100
        await until(lambda: len(pods.deleted) == 2)
    assert (pods.started, sorted(pods.deleted)) == (2, [PLACE, OTHER])


async def test_a_pool_that_ends_leaves_gateways_to_the_next(pods: ProcessPods, job: Job) -> None:
    for _ in range(2):
        async with pooled(pods) as (_, storage):
            assert await storage.log_size(job, 0) == 0
    assert (pods.started, pods.deleted) == (1, [])
