"""Gives a fork an environment of its own, also in the eyes of others. Linux only, stdlib only.

The kernel shows as /proc/PID/environ the memory in which a process got its environment when it
was executed. A fork that takes the place of a program writes its own there, so that ps, and
whoever looks for the processes of a pod, sees what is true.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

from trainer import procfs

# What a fork's environment may need more than that of the process it is forked from.
_ROOM = 32 * 1024
_ROOM_NAME = "TAAS_ROOM"


def with_room(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment to execute a process with whose forks shall take on others."""
    return {**env, _ROOM_NAME: "." * _ROOM}


def take_on(env: Mapping[str, str]) -> None:
    """Make this the environment of this process, as far as there is room in the eyes of others:
    the service's own variables come first, and what does not fit is left out."""
    # The C library keeps what is set in memory of its own.
    os.environ.clear()
    os.environ.update(env)
    fields = procfs.stat("self")
    start, end = int(fields[procfs.ENV_START]), int(fields[procfs.ENV_END])
    block = b""
    for name in sorted(env, key=lambda name: (not name.startswith("TAAS_"), name)):
        entry = os.fsencode(f"{name}={env[name]}") + b"\0"
        if len(block) + len(entry) < end - start:
            block += entry
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, block, len(block))
