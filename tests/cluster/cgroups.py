"""The cluster's own control groups: who belongs to the cluster, and how all of it is ended.

A process is ours if it sits in our group. Groups are inherited and cannot be left by accident,
and unlike a process id in a file they can never name a stranger.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import layout
from tests.cluster.commands import wait_until


def _mounted() -> tuple[list[Path], list[Path]]:
    """Where control groups of version 1 (a folder per controller) and of version 2 are mounted."""
    v1, v2 = set(), set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        kind, point = right.split()[0], Path(left.split()[4])
        if kind == "cgroup":
            v1.add(point)
        elif kind == "cgroup2":
            v2.add(point)
    return sorted(v1), sorted(v2)


def hierarchies() -> list[Path]:
    """The hierarchies that limit containers here: those of version 1 if there are any."""
    v1, v2 = _mounted()
    return v1 or v2


def registry() -> Path:
    """Our group in the hierarchy that says who is ours: one that containers join as well."""
    mounted = hierarchies()
    chosen = [point for point in mounted if point.name == "pids"] or mounted[:1]
    if not chosen:
        raise LookupError("no control groups are mounted; mount /sys/fs/cgroup first")
    return chosen[0] / layout.CGROUP


def create(name: str) -> Path:
    """Makes the group CGROUP/name in every hierarchy; its folder in the registry's one."""
    for hierarchy in hierarchies():
        here = hierarchy
        for part in (layout.CGROUP, *name.split("/")):
            _delegate(here)
            parent, here = here, here / part
            here.mkdir(exist_ok=True)
            _inherit_cpuset(parent, here)
    return registry() / name


def _delegate(group: Path) -> None:
    """Version 2: a child has only the controllers that its parent hands down."""
    available = group / "cgroup.controllers"
    if available.exists():
        for controller in available.read_text().split():
            with contextlib.suppress(OSError):
                (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _inherit_cpuset(parent: Path, child: Path) -> None:
    """Version 1: a new cpuset is empty and takes no process until it is filled in."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (child / name).exists() and not (child / name).read_text().strip():
            (child / name).write_text((parent / name).read_text())


def names() -> list[str]:
    """The groups right below CGROUP."""
    top = registry()
    return sorted(p.name for p in top.iterdir() if p.is_dir()) if top.exists() else []


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Puts this process into CGROUP/name for a while, and with it every program that it starts.

    If it is killed meanwhile, the next one to come here ends what it had started.
    """
    group = create(name)
    kill(name)
    before = _own_group()
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))
        kill(name)
        remove(name)


def _own_group() -> Path:
    """The group of this process in the hierarchy of the registry."""
    hierarchy = registry().parent
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if hierarchy.name in controllers.split(",") or not controllers:
            found = hierarchy / path.lstrip("/")
            if (found / "cgroup.procs").exists():
                return found
    return hierarchy


def members(name: str) -> list[int]:
    """Process ids in CGROUP/name and below, as this process sees them."""
    found: list[int] = []
    for folder, _, files in os.walk(registry() / name, topdown=False):
        if "cgroup.procs" in files:
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()]
    return found


def kill(name: str) -> None:
    """Ends every process in CGROUP/name and below with SIGKILL and waits until they are gone."""

    def empty() -> bool:
        left = members(name)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_until(f"the processes of {name} to end", empty)


def remove(name: str = "") -> None:
    """Removes the (empty) group CGROUP/name and all below it from every hierarchy."""
    v1, v2 = _mounted()
    # Where both versions are mounted, containers are in version 2 as well, without limits.
    for hierarchy in (*v1, *v2):
        top = hierarchy / layout.CGROUP / name

        def gone(top: Path = top) -> bool:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            return not top.exists()

        wait_until(f"{top} to be removed", gone)
