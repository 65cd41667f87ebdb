"""Finds and ends the processes of a pod, by the mark that all of them bear."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from controller.local import marks
from trainer.contract import ENV_POD_UID, ENV_SCRATCH

# Milliseconds one round waits for what it has killed; a process in a device driver may take
# longer, then the next round finds it again.
_ROUND_WAIT_MS = 1000


def end_round(pod_uid: str) -> int:
    """Kill what there is of a pod, wait for it to die, and return how many there were.

    One round may miss a process that is born while it looks: repeat until nothing is found.
    """
    dying = [fd for pid in psutil.pids() if (fd := _kill(pid, pod_uid)) is not None]
    for fd in dying:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(_ROUND_WAIT_MS)
        os.close(fd)
    return len(dying)


def _kill(pid: int, pod_uid: str) -> int | None:
    """Kill a process if it is of the pod, and return a pidfd to wait for its death on."""
    if not _belongs(pid, pod_uid):
        return None
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # The descriptor holds the process: what is checked now is what is killed.
    with suppress(ProcessLookupError, PermissionError):
        if _belongs(pid, pod_uid):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            return fd
    os.close(fd)
    return None


def pods_below(folder: Path) -> frozenset[str]:
    """Return the uids of the pods that have a process and whose folder is below that folder."""
    prefix = f"{folder}/"
    return frozenset(
        environment[ENV_POD_UID]
        for environment in _environments()
        if ENV_POD_UID in environment and environment.get(ENV_SCRATCH, "").startswith(prefix)
    )


def holders(paths: frozenset[Path]) -> dict[Path, int]:
    """Return which process has each of the files open: the oldest, if there are several."""
    found: dict[Path, tuple[float, int]] = {}
    for pid in psutil.pids():
        if pid == os.getpid():
            continue
        with suppress(psutil.Error, OSError):
            started = psutil.Process(pid).create_time()
            for link in Path(f"/proc/{pid}/fd").iterdir():
                path = Path(os.readlink(link))
                if path in paths:
                    found[path] = min(found.get(path, (started, pid)), (started, pid))
    return {path: pid for path, (_, pid) in found.items()}


def _belongs(pid: int, pod_uid: str) -> bool:
    if pid == os.getpid():
        return False
    try:
        return marks.bears(pid, pod_uid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _environments() -> Iterator[dict[str, str]]:
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):
            yield psutil.Process(pid).environ()
