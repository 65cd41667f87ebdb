"""Has the kernel's memory killer end a process, as it does in a container that is too small.

Works with version 1 of control groups, which limits containers on the machines of the tests.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from tests.faults.workers import Process, go_on, until

_MEMORY = Path("/sys/fs/cgroup/memory")
_LIMIT, _USAGE = "memory.limit_in_bytes", "memory.usage_in_bytes"
# What an agent must be able to get after its trainer is gone, which then has given back as much.
_LEAST = 8 * 2**20


def group_of(process: Process) -> Path:
    """The memory group that a process is in."""
    for line in Path(f"/proc/{process.pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _MEMORY / path.lstrip("/")
    raise LookupError("control groups of version 1 do not limit memory here")


def starve(victim: Process, group: Path, others: Iterable[Process]) -> None:
    """Give a group no more memory than it has, let its processes run, and return when the kernel
    has ended the victim, the biggest of them. Then there is no limit any more."""
    before = (group / _LIMIT).read_text()
    until(lambda: _limited(group), f"{group} to be limited", every_s=0.001)
    try:
        go_on([victim, *others])
        until(lambda: not victim.lives, "the kernel to end a process", every_s=0.001)
    finally:
        with contextlib.suppress(FileNotFoundError):
            (group / _LIMIT).write_text(before)


def _limited(group: Path) -> bool:
    with contextlib.suppress(OSError):
        # What only remembers files would be given up first.
        (group / "memory.force_empty").write_text("0")
    try:
        used = int((group / _USAGE).read_text())
        (group / _LIMIT).write_text(str(max(used, _LEAST)))
    except OSError:
        return False  # It has grown meanwhile.
    return True


def group_for(name: str, processes: list[Process]) -> Path:
    """A new group of the processes' own, to which they move empty-handed."""
    group = _MEMORY / name
    group.mkdir()
    for process in processes:
        (group / "cgroup.procs").write_text(str(process.pid))
    return group


def remove(group: Path) -> None:
    """Remove a group whose processes have ended."""
    until(lambda: _removed(group), f"{group} to be empty")


def _removed(group: Path) -> bool:
    with contextlib.suppress(OSError):
        os.rmdir(group)
    return not group.exists()
