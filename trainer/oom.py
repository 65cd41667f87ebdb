"""Counts the processes of this container that the kernel killed for want of memory."""

from __future__ import annotations

from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(membership: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS) -> int | None:
    """Return the count of the own control group, version 1 or 2; None if it cannot be read.

    It rises before the killed process can be waited for. Without a container all workers of
    the machine may share one group, and the count is of them all.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        path = path.lstrip("/")
        if "memory" in controllers.split(","):
            # A container often sees its own group as the root, whatever /proc says.
            files = [root / "memory" / path / "memory.oom_control"]
            files += [root / "memory" / "memory.oom_control"]
        elif not controllers:
            files = [root / path / "memory.events", root / "memory.events"]
        else:
            continue
        for file in files:
            if (count := _count(file)) is not None:
                return count
    return None


def _count(file: Path) -> int | None:
    try:
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    except (OSError, ValueError):
        pass
    return None
