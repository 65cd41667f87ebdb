"""Has agents forked from a process that has imported TensorFlow: see trainer/nursery.py.

Without it an agent starts by itself, and its worker imports TensorFlow first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from controller.local import leader, marks
from trainer import environment, forking, import_path

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

# An import that takes longer than this is stuck rather than slow.
_READY_S = 120.0
# To fork takes milliseconds.
_ANSWER_S = 30.0
# A nursery that keeps dying is not worth its imports.
_MOST_STARTS = 3


class NurseryFailed(Exception):
    """No agent was forked; the text says why."""


class Nursery:
    """The controller's end of a nursery, which is started when it is first needed. Its calls take
    turns in a thread of their own."""

    def __init__(self, home: Path, agent: Sequence[str]) -> None:
        """Forks what this command would start; its log is in the state folder."""
        self._home = home
        self._agent = tuple(agent)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nursery")
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._starts_left = _MOST_STARTS

    def forks(self, command: Sequence[str]) -> bool:
        """Say whether this can take the place of a command."""
        return tuple(command) == self._agent

    async def start(self, env: Mapping[str, str], folder: Path) -> tuple[int, int]:
        """Start an agent as `leader.start` does. Raises NurseryFailed, OSError."""
        return await self._in_turn(self._start, env, folder)

    async def exit_code(self, pid: int) -> int | None:
        """Return a dead agent's exit code, negative for a signal; None if it is not known."""
        return await self._in_turn(self._exit_code, pid)

    async def aclose(self) -> None:
        """End the nursery; agents live on."""
        await self._in_turn(self._hang_up)
        self._thread.shutdown()

    async def _in_turn(self, function: Callable[..., Result], *arguments: Any) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    def _start(self, env: Mapping[str, str], folder: Path) -> tuple[int, int]:
        with leader.place(folder) as descriptors:
            request = {
                "env": dict(env),
                "folder": str(folder / leader.SCRATCH),
                "mark": [marks.LOCKS, marks.of(folder.name)],
            }
            answer, received = self._ask(request, descriptors)
        if "pid" not in answer:
            raise NurseryFailed(str(answer.get("error")))
        (pidfd,) = received
        return answer["pid"], pidfd

    def _exit_code(self, pid: int) -> int | None:
        if not self._lives():
            return None
        try:
            status = self._ask({"reap": pid})[0]["status"]
        except NurseryFailed:
            return None
        return None if status < 0 else os.waitstatus_to_exitcode(status)

    def _ask(
        self, request: dict[str, Any], descriptors: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        """Put a request to the nursery, a new one if it has left meanwhile."""
        if not self._lives():
            self._hang_up()
            self._begin()
        return self._heard("the nursery of agents has died", request, descriptors)

    def _heard(
        self, gone: str, request: dict[str, Any] | None = None, descriptors: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        """Return what the nursery says next, after a request if there is one. Without an answer it
        is ended: raises NurseryFailed, with the text `gone` if it has hung up."""
        assert self._control is not None
        try:
            if request is not None:
                forking.send(self._control, request, descriptors)
            answer = forking.receive(self._control)
        except OSError as error:
            self._hang_up()
            raise NurseryFailed(f"the nursery of agents does not answer: {error}") from error
        if answer is None:
            self._hang_up()
            raise NurseryFailed(gone)
        return answer

    def _lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _begin(self) -> None:
        if not self._starts_left:
            raise NurseryFailed("the nursery of agents has died too often")
        self._starts_left -= 1
        ours, theirs = socket.socketpair()
        with theirs, (self._home / "nursery.log").open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "trainer.nursery", "--control", str(theirs.fileno())],
                    env=environment.with_room(leader.environment({}, os.environ)),
                    # `python -m` looks for modules there first.
                    cwd=import_path.ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise NurseryFailed(f"no nursery of agents: {error}") from error
        self._control = ours
        ours.settimeout(_READY_S)
        ready, _ = self._heard("TensorFlow cannot be imported; see nursery.log")
        _log.info("agents are forked from now on; imports took %s s", ready.get("ready"))
        ours.settimeout(_ANSWER_S)
        self._starts_left = _MOST_STARTS

    def _hang_up(self) -> None:
        """End the nursery, whatever it is doing."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
