"""Starts trainer processes for the agent: warm from a zygote if there is one, else cold.

A zygote is good for a job whose environment asks for nothing that matters while TensorFlow is
imported, or asks for what the zygote was given. Otherwise, and when the zygote has died, was
not ready in time or refuses, the start is cold, and a fitting zygote is made for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer import import_path
from trainer.children import Children
from trainer.contract import Assignment, permitted_env

_log = logging.getLogger(__name__)

ENTRY = "trainer.run:main"
_COMMAND_ENTRY = "trainer.command:main"
PRELOAD = ("tensorflow", "keras")

# Without this, every start prints a page of notices about CPU instructions.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}

# An import that takes longer than this is stuck rather than slow: 10 s were measured with
# nothing in the page cache.
_READY_S = 120.0
# To fork takes milliseconds; a cold process has Python itself to start.
_FORK_S = 30.0
# A zygote that keeps dying is not worth its imports.
_MOST_ZYGOTES = 3

# Read by native libraries, TensorFlow, Keras or Python while they are loaded, or at their first
# use in a way that the import may already have been.
_IMPORT_TIME = (
    "ABSL_ CUDA_ GLIBC_ GOMP_ GOTO_ GRPC_ KERAS_ KMP_ LD_ MALLOC_ MKL_ NCCL_ NPY_ NUMEXPR_ "
    "NVIDIA_ OMP_ ONEDNN_ OPENBLAS_ PYTHON TF2_ TF_ TPU_ XLA_"
)
_IMPORT_TIME_PREFIXES = tuple(_IMPORT_TIME.split())


class LaunchFailed(Exception):
    """No trainer could be started; the text says why."""


class _ZygoteFailed(Exception):
    """This zygote cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Pipes:
    """The descriptors that a trainer is given: its ends of stdout, stderr and reports."""

    stdout: int
    stderr: int
    reports: int


@dataclass(frozen=True, slots=True)
class Launched:
    """A trainer process, a child of this one. `cold` says why it was not warm, else empty."""

    pid: int
    ended: asyncio.Future[int]
    cold: str = ""


@dataclass(frozen=True, slots=True)
class Warm:
    """A zygote that there is from the beginning: a child of the agent, and the agent's end of its
    control socket. It has the environment that the agent would give it."""

    pid: int
    control: socket.socket


def import_time(env: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Return what env changes of base that must be known before TensorFlow is imported."""
    return {
        name: value
        for name, value in permitted_env(env).items()
        if name.startswith(_IMPORT_TIME_PREFIXES) and base.get(name) != value
    }


class Launcher:
    """Makes trainers. Lives in the event loop's main thread: the kernel ties a child's life to
    the thread that started it."""

    def __init__(
        self,
        children: Children,
        base_env: Mapping[str, str],
        *,
        entry: str = ENTRY,
        preload: Sequence[str] = PRELOAD,
    ) -> None:
        self._children = children
        self._base_env = {**QUIET, **base_env}
        self._entry = entry
        self._preload = tuple(preload)
        self._zygote: _Zygote | None = None
        self._zygotes_left = _MOST_ZYGOTES
        self._wanted_env: dict[str, str] = {}
        # The read end goes to every guard and trainer; the write end stays here, unused, and
        # closes when this process ends, however that comes about.
        self._lifeline, self._lifeline_held = os.pipe()

    @property
    def zygote_pid(self) -> int | None:
        """Process id of the zygote, if there is one."""
        return self._zygote.pid if self._zygote else None

    def take(self, warm: Warm) -> None:
        """Use a zygote that is there. Call once, when children are watched."""
        warm.control.setblocking(False)
        self._zygotes_left -= 1
        ended = self._children.ended(warm.pid)
        self._zygote = _Zygote(warm.pid, warm.control, ended, {})

    def warm_up(self) -> None:
        """Make a zygote for the environment last seen, unless a fitting one is there."""
        zygote = self._zygote
        if zygote and zygote.alive and zygote.env == self._wanted_env:
            return
        self._drop_zygote()
        if self._zygotes_left <= 0:
            return
        self._zygotes_left -= 1
        try:
            self._zygote = self._start_process(self._wanted_env, self._entry)
        except OSError as error:
            _log.warning("no warm process could be started: %s", error)

    async def ready(self, assignment: Assignment) -> str:
        """Wait for the zygote if it will do; return why the start must be cold, or ""."""
        if assignment.command:
            # It imports what it needs itself; a warm process would only hold memory.
            self._drop_zygote()
            self._zygotes_left = 0
            return "a command is a process of its own"
        self._wanted_env = import_time(assignment.env, self._base_env)
        zygote = self._zygote
        if zygote is None:
            return "there is no warm process"
        if zygote.env != self._wanted_env:
            names = ", ".join(sorted(self._wanted_env.keys() ^ zygote.env.keys()))
            return f"TensorFlow has to be imported anew for {names or 'other values'}"
        try:
            await zygote.ready()
        except _ZygoteFailed as failed:
            self._drop_zygote()
            return str(failed)
        return ""

    async def launch(self, assignment: Assignment, pipes: Pipes, *, cold: str) -> Launched:
        """Start a trainer; `cold` is the answer of ready(). Raises LaunchFailed."""
        self._children.forget_early()
        descriptors = (pipes.stdout, pipes.stderr, pipes.reports, self._lifeline)
        if not cold and self._zygote:
            try:
                pid = await self._zygote.fork(assignment, descriptors)
                return Launched(pid, self._children.ended(pid))
            except _ZygoteFailed as failed:
                cold = str(failed)
                self._drop_zygote()
                # It may have forked and been too slow to say so.
                await self._children.end_descendants()
        try:
            pid = await self._fork_cold(assignment, descriptors)
        except (OSError, _ZygoteFailed) as failed:
            raise LaunchFailed(f"the trainer process could not be started: {failed}") from failed
        return Launched(pid, self._children.ended(pid), cold)

    async def _fork_cold(self, assignment: Assignment, descriptors: Sequence[int]) -> int:
        entry = _COMMAND_ENTRY if assignment.command else self._entry
        starter = self._start_process(permitted_env(assignment.env), entry, cold=True)
        try:
            return await starter.fork(assignment, descriptors)
        finally:
            starter.close()

    def close(self) -> None:
        """End the zygote. Trainers are not touched, but they end with this process."""
        self._drop_zygote()
        os.close(self._lifeline)
        os.close(self._lifeline_held)

    def _drop_zygote(self) -> None:
        if self._zygote:
            self._zygote.kill()
            self._zygote = None

    def _start_process(self, env: Mapping[str, str], entry: str, *, cold: bool = False) -> _Zygote:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        command = [sys.executable, "-m", "trainer.zygote", "--control", str(theirs.fileno())]
        command += ["--agent", str(os.getpid()), "--entry", entry]
        command += ["--cold"] if cold else ["--preload", ",".join(self._preload)]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                # What it prints while it imports belongs to the agent's own log.
                stdout=sys.stderr,
                pass_fds=(theirs.fileno(),),
                env={**self._base_env, **env},
                # `python -m` looks for modules there first.
                cwd=import_path.ROOT,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        # It is reaped with all other children; this tells Popen not to look for it.
        process.returncode = 0
        return _Zygote(process.pid, ours, self._children.ended(process.pid), dict(env))


class _Zygote:
    """The agent's end of a zygote."""

    def __init__(
        self,
        pid: int,
        control: socket.socket,
        ended: asyncio.Future[int],
        env: dict[str, str],
    ) -> None:
        self.pid = pid
        self.env = env
        self._control = control
        self._ended = ended
        self._unread = b""
        self._is_ready = False
        self._deadline = asyncio.get_running_loop().time() + _READY_S
        self._reading = asyncio.Lock()

    @property
    def alive(self) -> bool:
        """False once the process has ended."""
        return not self._ended.done()

    async def ready(self) -> None:
        """Wait until the imports are done. Raises _ZygoteFailed. May be cancelled."""
        async with self._reading:
            if not self.alive:
                raise _ZygoteFailed("the warm process has died")
            if not self._is_ready:
                left = self._deadline - asyncio.get_running_loop().time()
                answer = await self._answer(max(left, 0.0), "to be ready")
                _log.info("the warm process is ready; imports took %s s", answer.get("ready"))
                self._is_ready = True

    async def fork(self, assignment: Assignment, descriptors: Sequence[int]) -> int:
        """Return the process id of a new trainer. Raises _ZygoteFailed."""
        request = json.dumps({"assignment": asdict(assignment)}).encode() + b"\n"
        try:
            sent = socket.send_fds(self._control, [request[:4096]], list(descriptors))
            await asyncio.get_running_loop().sock_sendall(self._control, request[sent:])
        except OSError as error:
            raise _ZygoteFailed(f"the warm process has died ({error.strerror})") from error
        answer = await self._answer(_FORK_S, "to fork")
        if "pid" not in answer:
            raise _ZygoteFailed(str(answer.get("error")))
        return int(answer["pid"])

    def close(self) -> None:
        """Hang up; the process ends by itself."""
        self._control.close()

    def kill(self) -> None:
        """End the process at once."""
        self._control.close()
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _answer(self, limit_s: float, doing: str) -> dict[str, Any]:
        try:
            line = await asyncio.wait_for(self._read_line(), limit_s)
        except TimeoutError as error:
            raise _ZygoteFailed(f"the warm process took over {limit_s:.0f} s {doing}") from error
        except OSError as error:
            raise _ZygoteFailed(f"the warm process has died ({error.strerror})") from error
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _read_line(self) -> bytes:
        """Return the next line. What a cancelled call has read is kept for the next one."""
        while b"\n" not in self._unread:
            data = await asyncio.get_running_loop().sock_recv(self._control, 4096)
            if not data:
                raise _ZygoteFailed("the warm process has died")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line
