"""Fixtures: a recording controller, and real agents that are gone after the test."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agent_world import Controller, StartWorker, Worker, all_gone, pack, processes_of, publish

from trainer import contract

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[Controller]:
    controller = Controller(tmp_path / "c.sock")
    await controller.start()
    yield controller
    await controller.stop()


@pytest.fixture
async def start_worker(
    tmp_path: Path, controller: Controller, request: pytest.FixtureRequest
) -> AsyncIterator[StartWorker]:
    """Start agents; all that is left of them is killed after the test."""
    started: list[tuple[str, Worker]] = []

    async def start(
        *, entry: str = "tests.agent.fake_trainer:main", preload: str = "", **env: str
    ) -> Worker:
        storage, scratch = tmp_path / "storage", tmp_path / f"scratch{len(started)}"
        digest = publish(storage, pack({"task.py": "# the program\n"}))
        pod_uid = f"{os.getpid()}-{request.node.name}-{len(started)}"
        settings = {
            contract.ENV_NAMESPACE: "team",
            contract.ENV_JOB: "job",
            contract.ENV_JOB_UID: "uid-1",
            contract.ENV_WORKER_INDEX: "1",
            contract.ENV_POD_UID: pod_uid,
            contract.ENV_CONTROLLER: controller.target,
            contract.ENV_POD_IP: "127.0.0.1",
            contract.ENV_STORAGE: str(storage),
            contract.ENV_SCRATCH: str(scratch),
            **env,
        }
        arguments = [entry, preload] if preload else [entry]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "tests" / "agent" / "run_agent.py"),
            *arguments,
            cwd=ROOT,
            env={**os.environ, **settings},
            start_new_session=True,
        )
        worker = Worker(process, storage, scratch, digest)
        started.append((pod_uid, worker))
        return worker

    yield start
    for pod_uid, worker in started:
        if worker.process.returncode is None:
            worker.process.kill()
        await worker.process.wait()
        for pid in processes_of(pod_uid):
            os.kill(pid, signal.SIGKILL)
        await all_gone(pod_uid)
