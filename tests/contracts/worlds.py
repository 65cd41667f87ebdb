"""The same view of a fake cluster and of one of real processes, for the contract tests."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import psutil

from controller.local.cluster import ProcessCluster
from controller.model import Job, PodSeen
from controller.ports import Cluster
from controller.render import LABEL_WORKER
from tests.fakes import FakeCluster
from trainer.contract import ENV_POD_UID, ENV_WORKER_INDEX

PROGRAM = Path(__file__).with_name("pod_program.py")
# Bounds how long a broken test takes; nothing waits for it when all is well.
TIMEOUT_S = 90


def manifest(name: str, index: int, command: list[str]) -> dict[str, Any]:
    """Return a pod manifest."""
    env = [{"name": ENV_WORKER_INDEX, "value": str(index)}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {LABEL_WORKER: str(index)}},
        "spec": {
            "containers": [{"name": "worker", "image": "none", "command": command, "env": env}]
        },
    }


def processes(pod_uid: str) -> list[int]:
    """Return the living processes that carry a pod's mark."""
    return [p.pid for p in psutil.process_iter() if _mark(p) == pod_uid]


def living(pids: list[int]) -> list[int]:
    """Return which of the processes live."""
    return [pid for pid in pids if psutil.pid_exists(pid) and not _is_zombie(pid)]


def _mark(process: psutil.Process) -> str | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.environ().get(ENV_POD_UID)
    except (psutil.Error, OSError):
        return None


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition of the machine holds."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110  processes and files set no asyncio.Event
            await asyncio.sleep(0.01)


async def pods_until(
    cluster: Cluster, job: Job, condition: Callable[[tuple[PodSeen, ...]], object]
) -> tuple[PodSeen, ...]:
    """Wait, on the cluster's changes only, until the job's pods are as wanted."""
    changes = cluster.changes()
    async with asyncio.timeout(TIMEOUT_S):
        while not condition(pods := await cluster.pods(job)):
            await anext(changes)
    return pods


class World(Protocol):
    """A cluster, and what a test can make happen in it."""

    cluster: Cluster

    async def create(self, job: Job, index: int) -> None:
        """Apply the pod of a worker and let it run."""

    async def leave(self, job: Job, index: int, code: int) -> None:
        """Let the worker's leader leave with that exit code."""

    async def let_go(self, job: Job, index: int) -> None:
        """Let a pod that is being deleted come to its end."""


def pod_name(job: Job, index: int) -> str:
    """Return the name of a worker's pod."""
    return f"{job.key.name}-{index}"


class FakeWorld:
    """The world of a FakeCluster."""

    def __init__(self) -> None:
        self.fake = FakeCluster()
        self.cluster: Cluster = self.fake

    async def create(self, job: Job, index: int) -> None:
        """Apply a pod and say that it runs."""
        await self.cluster.apply(job, manifest(pod_name(job, index), index, ["true"]))
        self.fake.pod_runs(job.key, index)

    async def leave(self, job: Job, index: int, code: int) -> None:
        """Say that the leader left."""
        if code:
            self.fake.pod_fails(job.key, index, message=f"exit code {code}")
        else:
            self.fake.pod_succeeds(job.key, index)

    async def let_go(self, job: Job, index: int) -> None:
        """Say that the pod is gone."""
        self.fake.pod_is_gone(job.key, index)


class ProcessWorld:
    """The world of a ProcessCluster: its leaders run pod_program.py."""

    def __init__(self, folder: Path, cluster: ProcessCluster) -> None:
        self.cluster: Cluster = cluster
        self.home = folder / "home"
        self._folder = folder

    def manifest(self, job: Job, index: int, *options: str) -> Mapping[str, Any]:
        """Return the manifest of a pod whose leader does what the options say."""
        control = self._control(job, index)
        if not control.exists():
            os.mkfifo(control)
        command = [sys.executable, "-S", "-E", str(PROGRAM), str(control), *options]
        return manifest(pod_name(job, index), index, command)

    async def create(self, job: Job, index: int, *options: str) -> None:
        """Apply a pod and wait until its leader is ready."""
        await self.cluster.apply(job, self.manifest(job, index, *options))
        await self.ready(job, index)

    async def ready(self, job: Job, index: int) -> int:
        """Wait until a leader is ready; return its process id."""
        pod = await self.pod(job, index)
        path = self.home / "pods" / pod.uid / "scratch" / "ready"
        await eventually(lambda: path.exists() and path.read_text())
        return int(path.read_text())

    async def pod(self, job: Job, index: int) -> PodSeen:
        """Return a worker's pod."""
        (pod,) = [pod for pod in await self.cluster.pods(job) if pod.index == index]
        return pod

    async def leave(self, job: Job, index: int, code: int) -> None:
        """Tell a leader to leave."""
        # Opened for reading too, so that neither end waits for the other.
        fd = os.open(self._control(job, index), os.O_RDWR)
        os.write(fd, f"{code}\n".encode())
        pod = await self.pod(job, index)
        try:
            await pods_until(
                self.cluster, job, lambda pods: all(p != pod for p in pods if p.index == index)
            )
        finally:
            os.close(fd)

    async def let_go(self, job: Job, index: int) -> None:
        """Nothing to do: processes end by themselves."""

    def _control(self, job: Job, index: int) -> Path:
        return self._folder / f"control-{job.key.namespace}-{pod_name(job, index)}"
