"""Reaps the agent's child processes, adopted ones included, and ends what a trainer left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable

from trainer import procfs

# How long processes may take to vanish after SIGKILL. Longer means one is stuck in the kernel,
# for example on a file server that is away; nothing more can be done to it then.
_VANISH_S = 5.0

# A program may start processes and abandon them without end; their statuses are not kept.
_MOST_EARLY = 1000


class Children:
    """The only place where the agent waits for processes. Lives in the event loop's thread."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}
        # Ends that came before anybody asked for them: a trainer's process id arrives over a
        # socket, and the trainer may be gone by then.
        self._early: dict[int, int] = {}

    def watch(self) -> None:
        """Begin to reap; call once, inside the event loop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)

    def forget_early(self) -> None:
        """Drop statuses nobody asked for. Call before a start: ids are used again in time."""
        self._early.clear()

    def ended(self, pid: int) -> asyncio.Future[int]:
        """Return a future of the wait status of a child that was started since forget_early."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if pid in self._early:
            future.set_result(self._early.pop(pid))
        else:
            self._waiting[pid] = future
        return future

    def reap(self) -> None:
        """Collect every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            future = self._waiting.pop(pid, None)
            if future is None:
                if len(self._early) < _MOST_EARLY:
                    self._early[pid] = status
            elif not future.done():
                future.set_result(status)

    async def end_descendants(self, keep: Callable[[], Iterable[int]] = tuple) -> bool:
        """Kill every descendant of this process but those that `keep` names, and theirs.

        Returns False if one was still there after some seconds.
        """
        deadline = time.monotonic() + _VANISH_S
        outrun = False
        while left := descendants(keep()):
            if outrun:
                # They fork faster than they are killed. One that is stopped forks no more, and
                # keeps the place that another would take under a limit on processes.
                _signal(left, signal.SIGSTOP)
            if not outrun or set(descendants(keep())) <= set(left):
                _signal(left, signal.SIGKILL)
            outrun = True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.005)
            self.reap()
        return True


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_group(group: int) -> None:
    """Send SIGKILL to a process group; nothing happens if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def descendants(keep: Iterable[int]) -> list[int]:
    """Return all living descendants of this process, but `keep` and theirs."""
    kept = set(keep)
    children: dict[int, list[int]] = {}
    for pid in procfs.pids():
        try:
            fields = procfs.stat(pid)
        except OSError:
            continue  # gone meanwhile
        if fields[procfs.STATE] not in "ZX":
            children.setdefault(int(fields[procfs.PARENT]), []).append(pid)
    found: list[int] = []
    front = [os.getpid()]
    while front:
        for pid in children.get(front.pop(), ()):
            if pid not in kept:
                found.append(pid)
                front.append(pid)
    return found
