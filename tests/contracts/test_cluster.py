"""What every Cluster does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import ClusterRefused
from controller.local.cluster import ProcessCluster
from controller.model import PodPhase
from tests.contracts.jobs import a_job
from tests.contracts.kubernetes_world import KUBERNETES, kubernetes_world
from tests.contracts.worlds import (
    TIMEOUT_S,
    FakeWorld,
    ProcessWorld,
    World,
    manifest,
    pod_name,
    pods_until,
)
from tests.fakes import FakeCluster, ImpossibleHistory


@asynccontextmanager
async def _world(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[World]:
    if kind == "fake":
        yield FakeWorld()
        return
    if kind == "kubernetes":
        async with kubernetes_world(request.getfixturevalue("api_server")) as opened:
            yield opened
        return
    async with ProcessCluster(folder / "home") as cluster:
        yield ProcessWorld(folder, cluster)
        await cluster.stop_all(0)


@pytest.fixture(params=["fake", "processes", KUBERNETES])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with _world(request.param, request, tmp_path) as opened:
        yield opened


async def test_a_pod_is_seen_once_applied(world: World) -> None:
    job = a_job()
    assert await world.cluster.pods(job) == ()
    await world.create(job, 1)
    await world.create(job, 0)
    pods = await world.cluster.pods(job)
    assert [(p.index, p.name, p.phase, p.deleting) for p in pods] == [
        (0, "mnist-0", PodPhase.RUNNING, False),
        (1, "mnist-1", PodPhase.RUNNING, False),
    ]
    assert pods[0].uid != pods[1].uid
    assert pods[0].created.tzinfo is not None


async def test_applied_twice_is_applied_once(world: World) -> None:
    job = a_job()
    await world.create(job, 0)
    before = await world.cluster.pods(job)
    again = manifest(pod_name(job, 0), 0, ["false"])
    await asyncio.gather(*(world.cluster.apply(job, again) for _ in range(5)))
    assert await world.cluster.pods(job) == before


async def test_jobs_do_not_see_each_others_pods(world: World) -> None:
    one, other = a_job("one"), a_job("other")
    namesake = replace(one, uid="another-uid")
    await world.create(one, 0)
    await world.create(other, 0)
    assert [p.name for p in await world.cluster.pods(one)] == ["one-0"]
    assert [p.name for p in await world.cluster.pods(other)] == ["other-0"]
    assert await world.cluster.pods(namesake) == ()


@pytest.mark.parametrize(("code", "phase"), [(0, PodPhase.SUCCEEDED), (3, PodPhase.FAILED)])
async def test_a_pod_that_ended_stays_until_it_is_deleted(
    world: World, code: int, phase: PodPhase
) -> None:
    job = a_job()
    await world.create(job, 0)
    (before,) = await world.cluster.pods(job)
    await world.leave(job, 0, code)
    (pod,) = await pods_until(world.cluster, job, lambda pods: pods[0].phase is phase)
    assert (pod.uid, pod.index) == (before.uid, 0)
    assert pod.reason == ("Completed" if code == 0 else "Error")
    if code:
        assert "exit code 3" in pod.message
    await world.cluster.apply(job, manifest(pod_name(job, 0), 0, ["true"]))
    assert (await world.cluster.pods(job))[0].uid == before.uid
    await world.cluster.delete(job, pod.name, 30)
    await world.let_go(job, 0)
    await pods_until(world.cluster, job, lambda pods: not pods)


@pytest.mark.parametrize("grace_s", [0, 30])
async def test_a_deleted_pod_goes_and_its_name_is_free(world: World, grace_s: int) -> None:
    job = a_job()
    await world.create(job, 0)
    (old,) = await world.cluster.pods(job)
    await world.cluster.delete(job, old.name, grace_s)
    assert all(pod.deleting for pod in await world.cluster.pods(job))
    await world.cluster.delete(job, old.name, grace_s)
    await world.let_go(job, 0)
    await pods_until(world.cluster, job, lambda pods: not pods)
    await world.create(job, 0)
    (new,) = await world.cluster.pods(job)
    assert new.uid != old.uid
    assert not new.deleting


async def test_deleting_what_is_not_there_does_nothing(world: World) -> None:
    job = a_job()
    await world.cluster.delete(job, "mnist-0", 30)
    await world.create(job, 0)
    await world.cluster.delete(replace(job, uid="another-uid"), "mnist-0", 30)
    assert [pod.deleting for pod in await world.cluster.pods(job)] == [False]


async def test_every_change_is_told(world: World) -> None:
    job = a_job()
    changes = world.cluster.changes()
    async with asyncio.timeout(TIMEOUT_S):
        await world.create(job, 0)
        assert await anext(changes) == job.key
        await world.leave(job, 0, 1)
        assert await anext(changes) == job.key
        await pods_until(world.cluster, job, lambda pods: pods[0].phase is PodPhase.FAILED)
        await world.cluster.delete(job, pod_name(job, 0), 0)
        assert await anext(changes) == job.key


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"metadata": {"name": "x"}, "spec": {"containers": []}},
        {"metadata": {"name": "x"}, "spec": {"containers": [{"env": []}]}},
        {"metadata": {"name": "x"}, "spec": {"containers": [{"command": ["true"]}]}},
    ],
)
async def test_a_manifest_that_cannot_run_is_refused(
    world: World, broken: dict[str, object]
) -> None:
    job = a_job()
    with pytest.raises(ClusterRefused):
        await world.cluster.apply(job, broken)
    assert await world.cluster.pods(job) == ()


async def test_a_process_needs_a_command(tmp_path: Path) -> None:
    # In a container an image may have one of its own.
    async with ProcessCluster(tmp_path / "home") as cluster:
        with pytest.raises(ClusterRefused, match="command is empty"):
            await cluster.apply(a_job(), manifest("x", 0, []))


async def test_the_fake_refuses_impossible_histories() -> None:
    job, fake = a_job(), FakeCluster()
    with pytest.raises(ImpossibleHistory, match="has no pod"):
        fake.pod_fails(job.key, 0)
    await fake.apply(job, manifest("mnist-0", 0, ["true"]))
    with pytest.raises(ImpossibleHistory, match="Pending"):
        fake.pod_succeeds(job.key, 0)
    with pytest.raises(ImpossibleHistory, match="not being deleted"):
        fake.pod_is_gone(job.key, 0)
    fake.pod_waits(job.key, 0, "ImagePullBackOff")
    fake.pod_runs(job.key, 0)
    fake.pod_succeeds(job.key, 0)
    for impossible in (fake.pod_runs, fake.pod_fails, fake.pod_succeeds):
        with pytest.raises(ImpossibleHistory, match="Succeeded"):
            impossible(job.key, 0)
    fake.pod_vanishes(job.key, 0)
    assert await fake.pods(job) == ()


async def test_the_fake_refuses_when_told() -> None:
    job, fake = a_job(), FakeCluster()
    fake.refuse = ClusterRefused("quota exceeded")
    with pytest.raises(ClusterRefused, match="quota"):
        await fake.apply(job, manifest("mnist-0", 0, ["true"]))
