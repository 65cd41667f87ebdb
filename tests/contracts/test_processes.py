"""What the pods of the local cluster leave behind, and who survives whom: with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from controller.errors import ClusterRefused, ClusterUnavailable
from controller.local import leader
from controller.local.cluster import ProcessCluster
from controller.local.pods import Pod, PodTable
from controller.model import Job, PodPhase
from tests.contracts.jobs import NOON, a_job
from tests.contracts.worlds import (
    TIMEOUT_S,
    ProcessWorld,
    eventually,
    living,
    manifest,
    pods_until,
    processes,
)
from trainer.contract import ENV_POD_IP, ENV_POD_UID, ENV_SCRATCH

_ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def _opened(folder: Path, *, stop: bool = True) -> AsyncIterator[ProcessWorld]:
    async with ProcessCluster(folder / "home") as cluster:
        try:
            yield ProcessWorld(folder, cluster)
        finally:
            if stop:
                await cluster.stop_all(0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ProcessWorld]:
    async with _opened(tmp_path) as opened:
        yield opened
    assert list((tmp_path / "home" / "pods").glob("*")) == []


async def _family(world: ProcessWorld, job: Job, size: int) -> list[int]:
    """Return the leader and all it started, once there are so many of them in its session or
    with its mark."""
    pid = await world.ready(job, 0)
    pod = await world.pod(job, 0)

    def family() -> set[int]:
        session = {p for p in psutil.pids() if p != pid and _session(p) == pid}
        return {pid, *session, *processes(pod.uid)}

    await eventually(lambda: len(family()) == size)
    return sorted(family())


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


async def test_nothing_of_a_pod_lives_when_it_is_reported_dead(world: ProcessWorld) -> None:
    job = a_job()
    await world.create(job, 0, "child", "orphan", "bare", "fork")
    family = await _family(world, job, 5)
    os.kill(await world.ready(job, 0), signal.SIGKILL)
    (pod,) = await pods_until(world.cluster, job, lambda pods: pods[0].phase is PodPhase.FAILED)
    assert living(family) == []
    assert pod.reason == "Error"
    assert "signal 9 (Killed)" in pod.message
    assert "the last line it printed: ready to serve" in pod.message


async def test_nothing_of_a_pod_lives_when_it_is_reported_done(world: ProcessWorld) -> None:
    job = a_job()
    await world.create(job, 0, "child", "orphan")
    family = await _family(world, job, 3)
    await world.leave(job, 0, 0)
    assert (await world.pod(job, 0)).phase is PodPhase.SUCCEEDED
    assert living(family) == []


@pytest.mark.parametrize("grace_s", [0, 1])
async def test_what_ignores_sigterm_is_killed_after_the_grace(
    world: ProcessWorld, grace_s: int
) -> None:
    job = a_job()
    await world.create(job, 0, "deaf", "child", "orphan")
    family = await _family(world, job, 3)
    await world.cluster.delete(job, "mnist-0", grace_s)
    await pods_until(world.cluster, job, lambda pods: not pods)
    assert living(family) == []


async def _stray(scratch: Path) -> int:
    """Return the process that has nothing of its pod any more."""
    path = scratch / "stray"
    await eventually(lambda: path.exists() and path.read_text())
    pid = int(path.read_text())
    # The shell that wrote it becomes the program itself.
    await eventually(lambda: psutil.Process(pid).name() == "sleep")
    assert psutil.Process(pid).environ().get(ENV_POD_UID) is None
    return pid


async def test_a_process_that_has_left_its_session_and_environment_ends_with_its_pod(
    world: ProcessWorld,
) -> None:
    job = a_job()
    await world.create(job, 0, "stray")
    await world.create(job, 1, "stray")
    scratches = [world.home / "pods" / (await world.pod(job, i)).uid / "scratch" for i in (0, 1)]
    stray, neighbours = [await _stray(scratch) for scratch in scratches]
    os.kill(await world.ready(job, 0), signal.SIGKILL)
    await pods_until(world.cluster, job, lambda pods: pods[0].phase is PodPhase.FAILED)
    assert living([stray, neighbours]) == [neighbours]


async def test_what_a_pod_left_behind_while_nobody_looked_is_ended(tmp_path: Path) -> None:
    job = a_job()
    async with _controller(tmp_path, job, "stray") as controller:
        await controller.kill()
    (folder,) = (tmp_path / "home" / "pods").iterdir()
    stray = await _stray(folder / "scratch")
    os.kill(int((folder / "scratch" / "ready").read_text()), signal.SIGKILL)
    async with _opened(tmp_path) as world:
        await pods_until(world.cluster, job, lambda pods: pods[0].phase is PodPhase.FAILED)
        assert living([stray]) == []


async def test_a_pod_goes_however_deep_its_files_lie_and_the_next_one_starts(
    world: ProcessWorld, dig: Callable[[Path, int], int]
) -> None:
    job = a_job()
    await world.create(job, 0)
    folder = world.home / "pods" / (await world.pod(job, 0)).uid
    os.close(dig(folder / "scratch", 1200))
    await world.cluster.delete(job, "mnist-0", 0)
    await pods_until(world.cluster, job, lambda pods: not pods)
    assert not folder.exists()
    await world.create(job, 0)


async def test_what_a_pod_without_a_record_left_deep_down_goes(
    tmp_path: Path, dig: Callable[[Path, int], int]
) -> None:
    scratch = tmp_path / "home" / "pods" / "unknown" / "scratch"
    scratch.mkdir(parents=True)
    os.close(dig(scratch, 1200))
    async with _opened(tmp_path) as world:
        assert list((tmp_path / "home" / "pods").iterdir()) == []
        await world.create(a_job(), 0)


async def test_one_pods_death_leaves_its_neighbour_alone(world: ProcessWorld) -> None:
    job = a_job()
    await world.create(job, 0, "child")
    await world.create(job, 1, "child")
    neighbour = processes((await world.pod(job, 1)).uid)
    await world.cluster.delete(job, "mnist-0", 0)
    await pods_until(world.cluster, job, lambda pods: len(pods) == 1)
    assert living(neighbour) == neighbour
    assert len(neighbour) == 2


async def test_a_pod_has_its_own_environment(
    world: ProcessWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", "the controller's")
    monkeypatch.setenv("LC_TIME", "C.UTF-8")
    job = a_job()
    wanted = dict(world.manifest(job, 0))
    wanted["spec"]["containers"][0]["env"] += [
        {"name": "HOME", "value": "/elsewhere"},
        {"name": ENV_POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    await world.cluster.apply(job, wanted)
    pid = await world.ready(job, 0)
    pod = await world.pod(job, 0)
    environment = psutil.Process(pid).environ()
    scratch = Path(environment[ENV_SCRATCH])
    assert scratch == world.home / "pods" / pod.uid / "scratch"
    assert os.stat(scratch).st_mode & 0o777 == 0o700
    assert environment[ENV_POD_UID] == pod.uid
    assert environment[ENV_POD_IP] == "127.0.0.1"
    assert environment["HOME"] == "/elsewhere"
    assert environment["LC_TIME"] == "C.UTF-8"
    assert environment["PATH"] == os.environ["PATH"]
    assert "TF_CONFIG" not in environment


@pytest.mark.parametrize("command", [["/no/such/python"], ["/"], ["bad\0word"]])
async def test_a_leader_that_cannot_start_is_refused(
    world: ProcessWorld, command: list[str]
) -> None:
    job = a_job()
    await world.create(job, 1)
    with pytest.raises(ClusterRefused, match=r"pod mnist-0: .* cannot be started"):
        await world.cluster.apply(job, manifest("mnist-0", 0, command))
    assert [pod.index for pod in await world.cluster.pods(job)] == [1]
    assert len(list((world.home / "pods").iterdir())) == 1


async def test_a_caller_that_leaves_does_not_tear_a_launch_apart(world: ProcessWorld) -> None:
    job = a_job()
    caller = asyncio.ensure_future(world.cluster.apply(job, world.manifest(job, 0)))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    await pods_until(world.cluster, job, lambda pods: [p.phase for p in pods] == [PodPhase.RUNNING])


async def test_stop_all_ends_everything_for_good(tmp_path: Path) -> None:
    job = a_job()
    async with ProcessCluster(tmp_path / "home") as cluster:
        world = ProcessWorld(tmp_path, cluster)
        await world.create(job, 0, "deaf", "child")
        await world.create(job, 1)
        await cluster.delete(job, "mnist-0", 3600)
        pods = await cluster.pods(job)
        async with asyncio.timeout(TIMEOUT_S):
            await cluster.stop_all(1)
        assert [processes(pod.uid) for pod in pods] == [[], []]
        assert await cluster.pods(job) == ()
        with pytest.raises(ClusterUnavailable, match="stopping"):
            await cluster.apply(job, world.manifest(job, 0))


async def test_pods_outlive_a_controller_that_leaves(tmp_path: Path) -> None:
    job = a_job()
    async with _opened(tmp_path, stop=False) as first:
        await first.create(job, 0, "child")
        await first.create(job, 1)
        await first.leave(job, 1, 3)
        before = await first.cluster.pods(job)
    async with _opened(tmp_path) as second:
        assert await second.cluster.pods(job) == before
        assert len(processes(before[0].uid)) == 2
        await second.leave(job, 0, 4)
        assert "exit code 4" in (await second.pod(job, 0)).message


async def test_an_error_of_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnavailable, match="as it is"):
        async with ProcessCluster(tmp_path / "home"):
            raise ClusterUnavailable("as it is")


async def test_a_damaged_record_of_pods_is_named(tmp_path: Path) -> None:
    (tmp_path / "pods.db").write_bytes(b"not a database at all\n" * 500)
    with pytest.raises(ClusterUnavailable, match=r"pods\.db is damaged"):
        async with ProcessCluster(tmp_path):
            pass


class _Controller:
    """A controller in a process of its own."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self._process = process

    async def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def _controller(
    folder: Path, job: Job, *options: str, grace_s: int | None = None
) -> AsyncIterator[_Controller]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contracts.controller_process",
        str(folder),
        job.uid,
        json.dumps([options, grace_s]),
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT_S):
        assert await process.stdout.readline() == b"ready\n"
    try:
        yield _Controller(folder, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_pods_outlive_a_controller_that_is_killed(tmp_path: Path) -> None:
    job = a_job()
    async with _controller(tmp_path, job, "child", "orphan") as controller:
        await controller.kill()
    async with _opened(tmp_path) as world:
        pod = await world.pod(job, 0)
        assert pod.phase is PodPhase.RUNNING
        family = processes(pod.uid)
        assert len(family) == 3
        os.kill(await world.ready(job, 0), signal.SIGKILL)
        (dead,) = await pods_until(
            world.cluster, job, lambda pods: pods[0].phase is PodPhase.FAILED
        )
        assert (dead.uid, dead.reason) == (pod.uid, "Unknown")
        assert living(family) == []


@pytest.mark.parametrize("option", ["child", "orphan", "fork"])
async def test_a_death_that_nobody_saw_is_found(tmp_path: Path, option: str) -> None:
    job = a_job()
    async with _controller(tmp_path, job, option) as controller:
        await controller.kill()
    (folder,) = (tmp_path / "home" / "pods").iterdir()
    os.kill(int((folder / "scratch" / "ready").read_text()), signal.SIGKILL)
    await eventually(lambda: len(processes(folder.name)) == 1)
    async with _opened(tmp_path) as world:
        (pod,) = await pods_until(world.cluster, job, lambda pods: pods[0].phase is PodPhase.FAILED)
        assert (pod.uid, pod.reason) == (folder.name, "Unknown")
        assert processes(pod.uid) == []


async def test_a_deletion_goes_on_after_the_controller_was_killed(tmp_path: Path) -> None:
    job = a_job()
    async with _controller(tmp_path, job, "deaf", "child", grace_s=2) as controller:
        await controller.kill()
    (folder,) = (tmp_path / "home" / "pods").iterdir()
    async with _opened(tmp_path, stop=False) as world:
        await pods_until(world.cluster, job, lambda pods: not pods)
        assert processes(folder.name) == []
        assert not folder.exists()
    async with _opened(tmp_path) as world:
        assert await world.cluster.pods(job) == ()


async def _unrecorded(world_folder: Path, job: Job, *, row: bool, process: bool) -> Pod:
    """Leave behind what a controller leaves that dies in the middle of a launch."""
    pod = Pod(str(uuid.uuid4()), job.key, job.uid, 0, "mnist-0", NOON)
    home = world_folder / "home"
    folder = home / "pods" / pod.uid
    table = PodTable(home / "pods.db")
    await table.open()
    if row:
        await table.add(pod)
    await table.aclose()
    if process:
        env = {ENV_POD_UID: pod.uid, ENV_SCRATCH: str(folder / "scratch")}
        _, pidfd = leader.start(["sleep", "100000"], {**os.environ, **env}, folder)
        os.close(pidfd)
    return pod


async def test_a_process_that_was_not_yet_recorded_is_adopted(tmp_path: Path) -> None:
    job = a_job()
    made = await _unrecorded(tmp_path, job, row=True, process=True)
    (pid,) = processes(made.uid)
    async with _opened(tmp_path) as world:
        pod = await world.pod(job, 0)
        assert (pod.uid, pod.phase) == (made.uid, PodPhase.RUNNING)
    assert living([pid]) == []


async def test_a_pod_that_was_never_started_is_lost(tmp_path: Path) -> None:
    job = a_job()
    made = await _unrecorded(tmp_path, job, row=True, process=False)
    async with _opened(tmp_path) as world:
        (pod,) = await pods_until(world.cluster, job, lambda pods: pods[0].phase is PodPhase.FAILED)
        assert pod.uid == made.uid


@pytest.mark.parametrize("folder_is_left", [True, False])
async def test_a_pod_without_a_record_is_ended(tmp_path: Path, folder_is_left: bool) -> None:
    made = await _unrecorded(tmp_path, a_job(), row=False, process=True)
    folder = tmp_path / "home" / "pods" / made.uid
    (pid,) = processes(made.uid)
    if not folder_is_left:
        folder.rename(tmp_path / "away")
    async with _opened(tmp_path):
        assert living([pid]) == []
        assert not folder.exists()
    await asyncio.to_thread(os.waitpid, pid, 0)
