"""Agents that are forked from a process with TensorFlow in it are what started agents are."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from controller.local import leader, marks
from controller.local.nursery import Nursery, NurseryFailed
from controller.render import agent_command
from tests.contracts.worlds import TIMEOUT_S, eventually
from trainer import contract

COMMAND = agent_command(sys.executable)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("home"), COMMAND)
    yield made
    asyncio.run(made.aclose())


class Agent:
    """A forked agent whose controller is not there."""

    def __init__(self, folder: Path, pid: int, pidfd: int) -> None:
        self.folder, self.process, self.pidfd = folder, psutil.Process(pid), pidfd

    @property
    def pid(self) -> int:
        return self.process.pid

    async def zygote(self) -> psutil.Process:
        def found() -> list[psutil.Process]:
            return [p for p in self.process.children() if p.name() == "taas-zygote"]

        await eventually(lambda: bool(found()))
        return found()[0]

    async def dead(self) -> None:
        stirred = asyncio.Event()
        with leader.Death(self.pidfd, stirred):
            await asyncio.wait_for(stirred.wait(), TIMEOUT_S)
        os.close(self.pidfd)


async def begun(nursery: Nursery, tmp_path: Path) -> Agent:
    uid = str(uuid.uuid4())
    folder = tmp_path / uid
    env = {
        **os.environ,
        contract.ENV_NAMESPACE: "default",
        contract.ENV_JOB: "digits",
        contract.ENV_JOB_UID: "uid-1",
        contract.ENV_WORKER_INDEX: "0",
        contract.ENV_POD_UID: uid,
        contract.ENV_CONTROLLER: f"unix:{tmp_path}/nobody.sock",
        contract.ENV_STORAGE: str(tmp_path / "storage"),
        contract.ENV_SCRATCH: str(folder / leader.SCRATCH),
    }
    agent = Agent(folder, *await nursery.start(env, folder))
    await agent.zygote()
    return agent


def test_only_agents_are_forked(nursery: Nursery) -> None:
    assert nursery.forks(COMMAND)
    assert not nursery.forks([*COMMAND, "--more"])


async def test_a_forked_agent_shows_itself_as_a_started_one(
    nursery: Nursery, tmp_path: Path
) -> None:
    agent = await begun(nursery, tmp_path)
    for process in (agent.process, await agent.zygote()):
        env = process.environ()
        assert env[contract.ENV_POD_UID] == agent.folder.name
        assert env["PATH"] == os.environ["PATH"]
        assert env["TF_CPP_MIN_LOG_LEVEL"] == os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")
        assert process.cwd() == str(agent.folder / leader.SCRATCH)
        assert marks.bears(process.pid, agent.folder.name)
        assert os.getsid(process.pid) == agent.pid
    assert agent.process.name() == "taas-agent"
    assert leader.lives(agent.folder)
    # That nobody answers it.
    await eventually(lambda: "agent INFO" in (agent.folder / leader.LOG_FILE).read_text())

    agent.process.send_signal(signal.SIGTERM)
    await agent.dead()
    assert await nursery.exit_code(agent.pid) == 128 + signal.SIGTERM
    assert not leader.lives(agent.folder)


async def test_with_a_killed_agent_its_zygote_goes_and_the_signal_is_known(
    nursery: Nursery, tmp_path: Path
) -> None:
    one, other = await asyncio.gather(begun(nursery, tmp_path), begun(nursery, tmp_path))
    zygote = await one.zygote()
    one.process.kill()
    await one.dead()
    await eventually(lambda: not zygote.is_running())
    # The lock is the leader's alone.
    assert not leader.lives(one.folder)
    assert await nursery.exit_code(one.pid) == -signal.SIGKILL
    assert leader.lives(other.folder)
    other.process.kill()
    await other.dead()


async def test_agents_outlive_their_nursery_and_the_next_one_is_begun(
    nursery: Nursery, tmp_path: Path
) -> None:
    first = await begun(nursery, tmp_path)
    parent = first.process.parent()
    assert parent is not None
    assert parent.name() == "taas-nursery"
    parent.kill()
    await eventually(lambda: not parent.is_running() or parent.status() == psutil.STATUS_ZOMBIE)
    second = await begun(nursery, tmp_path)
    assert leader.lives(first.folder)
    for agent in (first, second):
        agent.process.kill()
        await agent.dead()
    assert await nursery.exit_code(first.pid) is None
    assert await nursery.exit_code(second.pid) == -signal.SIGKILL


async def test_without_tensorflow_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    nursery = Nursery(tmp_path, COMMAND)
    with pytest.raises(NurseryFailed, match="TensorFlow cannot be imported"):
        await nursery.start({}, tmp_path / "pod")
    await nursery.aclose()
    assert "not here" in (tmp_path / "nursery.log").read_text()
