"""What the kernel has refused or taken from this container, as its control group counts it."""

from __future__ import annotations

from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(membership: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS) -> int | None:
    """Return how many processes were killed for want of memory; None if it cannot be read.

    It rises before the killed process can be waited for. Without a container all workers of
    the machine may share one group, and the count is of them all.
    """
    return _counted(membership, root, "memory", ("memory.oom_control", "memory.events"), "oom_kill")


def refused_processes(
    membership: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS
) -> int | None:
    """Return how often a process or thread was refused because there were too many; None if it
    cannot be read.

    Limits of a pod are set on a group around that of the container. Version 1, and version 2
    before Linux 6.11, count for the group that asked; later ones for the group with the limit,
    which a container does not see: there this stays 0.
    """
    return _counted(membership, root, "pids", ("pids.events", "pids.events"), "max")


def _counted(
    membership: Path, root: Path, controller: str, files: tuple[str, str], key: str
) -> int | None:
    """Return a number of the own control group; `files` hold it in version 1 and in version 2."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        path = path.lstrip("/")
        if controller in controllers.split(","):
            # A container often sees its own group as the root, whatever /proc says.
            places = [root / controller / path / files[0], root / controller / files[0]]
        elif not controllers:
            places = [root / path / files[1], root / files[1]]
        else:
            continue
        for file in places:
            if (count := _number(file, key)) is not None:
                return count
    return None


def _number(file: Path, key: str) -> int | None:
    try:
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        pass
    return None
