"""Ties processes to the life of the agent, through the kernel. Linux only, stdlib only.

Three ropes, because each alone has a hole:
- the kernel kills a trainer when the agent dies (PR_SET_PDEATHSIG), which reaches the trainer
  itself even when it is stuck in native code, but none of the processes it started;
- a guard, a tiny process in the trainer's process group, sees the end of the agent's pipe and
  kills the whole group;
- the agent adopts orphans (PR_SET_CHILD_SUBREAPER), so that while it lives it finds everything
  a trainer left behind, also what left the process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"prctl({option}): {os.strerror(errno)}")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def name_process(name: str) -> None:
    """Set the name that ps and top show; at most 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode())


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, its parent, ends; end now if it has.

    Holds for this process only: a fork clears it. The parent's thread that counts is the one
    that started this process, so a parent starts processes from its main thread.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended before the call above; then nothing would ever come.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def guard(group: int, lifeline: int) -> NoReturn:
    """Wait for the end of the agent's pipe, then kill the process group. Runs in a fork.

    The guard is a member of the group, so it ends with it, however that comes about.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.setpgid(0, group)
        name_process("taas-guard")
        # Holding the trainer's pipes would hide their end from the agent.
        os.closerange(0, lifeline)
        os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
        while os.read(lifeline, 1):
            pass
        os.killpg(group, signal.SIGKILL)
    os._exit(0)
