"""The first process of a pod: how it is started, found again, and how its end is noticed.

The leader holds a lock on a file of its pod from before it exists until its death, so whether it
lives does not depend on a process id, which the kernel gives out again.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from controller.local import marks
from controller.model import PodPhase

LOG_FILE = "agent.log"
SCRATCH = "scratch"
_LOCK_FILE = "alive.lock"
# Bytes of the log that are searched for the last words of a pod that failed.
_LAST_WORDS = 4096

# What a pod takes over from the controller; the rest of its environment is in its manifest. The
# names are what programs need to find themselves, the user, the devices and the network.
_INHERITED = re.compile(
    r"HOME|LANG|LANGUAGE|LC_\w+|LD_LIBRARY_PATH|LOGNAME|PATH|PYTHONPATH|SHELL|TMPDIR|TZ|USER"
    r"|VIRTUAL_ENV|CUDA_\w+|NVIDIA_\w+|SSL_CERT_\w+|(ALL|HTTP|HTTPS|NO)_PROXY"
    r"|(all|http|https|no)_proxy"
)


@dataclass(frozen=True, slots=True)
class End:
    """How a leader ended, as its pod shows it."""

    phase: PodPhase
    reason: str
    message: str


def environment(own: Mapping[str, str], controller: Mapping[str, str]) -> dict[str, str]:
    """Return a pod's environment: its own, over what it takes from the controller."""
    inherited = {name: value for name, value in controller.items() if _INHERITED.fullmatch(name)}
    return {**inherited, **own}


@contextmanager
def place(folder: Path) -> Iterator[tuple[int, int]]:
    """Make a pod's folder, for the owner alone and named by the pod's uid; give the log that its
    leader writes to and the lock that it holds. Raises OSError."""
    for path in (folder, folder / SCRATCH):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (folder / LOG_FILE).open("ab") as log:
            yield log.fileno(), lock
    finally:
        os.close(lock)


def start(command: Sequence[str], env: Mapping[str, str], folder: Path) -> tuple[int, int]:
    """Start a leader in a folder of its own; return its process id and a pidfd. Raises OSError,
    ValueError, and then nothing runs."""
    with place(folder) as (log, lock), marks.marking(folder.name):
        process = subprocess.Popen(
            command,
            env=env,
            cwd=folder / SCRATCH,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            start_new_session=True,
        )
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        process.kill()
        process.wait()
        raise
    # From here on the pidfd stands for the process: Popen must neither reap it nor warn.
    process.returncode = 0
    return process.pid, pidfd


def lock_path(folder: Path) -> Path:
    """Return the file that the leader of a pod holds locked."""
    return folder / _LOCK_FILE


def lives(folder: Path) -> bool:
    """Say whether the leader of a pod, or a fork of it, is alive."""
    try:
        fd = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def exit_code(pidfd: int) -> int | None:
    """Reap a dead leader and return its exit code, negative for a signal; None if it is not this
    process's child."""
    try:
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if status is None:
        return None
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def end_of(code: int | None, folder: Path) -> End:
    """Say how a leader ended, by its exit code as `exit_code` gives it."""
    if code is None:
        return End(
            PodPhase.FAILED,
            "Unknown",
            "the agent ended; another controller had started it, so its exit code is unknown"
            + _last_words(folder),
        )
    if code < 0:
        message = f"the agent was ended by signal {-code} ({signal.strsignal(-code)})"
        return End(PodPhase.FAILED, "Error", message + _last_words(folder))
    if code == 0:
        return End(PodPhase.SUCCEEDED, "Completed", "the agent left with exit code 0")
    message = f"the agent left with exit code {code}"
    return End(PodPhase.FAILED, "Error", message + _last_words(folder))


class Death:
    """Says whether the process of a pidfd has died, and stirs an event when it does."""

    def __init__(self, pidfd: int, stirred: asyncio.Event) -> None:
        self.seen = False
        self._pidfd = pidfd
        self._stirred = stirred
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Death:
        self._loop.add_reader(self._pidfd, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._pidfd)

    def _note(self) -> None:
        # The descriptor stays readable; once is enough.
        self._loop.remove_reader(self._pidfd)
        self.seen = True
        self._stirred.set()


def _last_words(folder: Path) -> str:
    try:
        with (folder / LOG_FILE).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_WORDS))
            lines = log.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; the last line it printed: {last[:300]}" if last else ""
