"""Locks on files, by which the processes of one user take turns; they end with their process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from taas.errors import ServiceUnavailable

# How often a lock that another process holds is tried again.
_PAUSE_S = 0.05
_MAX_WORD_BYTES = 16


@contextlib.contextmanager
def alone(path: Path, word: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock alone, waiting for it. `word` is left in the file for those who wait;
    `on_wait` is told the word of another holder at every try but the first."""
    with opened(path) as file:
        while not taken(file):
            time.sleep(_PAUSE_S)
            on_wait(os.pread(file, _MAX_WORD_BYTES, 0).decode(errors="replace"))
        # A full disk must not keep anybody from stopping the service; it costs only the word.
        with contextlib.suppress(OSError):
            os.ftruncate(file, 0)
            os.pwrite(file, word.encode(), 0)
        yield


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock together with others who share it."""
    with opened(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file, made if need be; a lock on it ends when it is closed."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServiceUnavailable(
            f"{path}: {error.strerror}; mend that, or set TAAS_HOME to another folder"
        ) from error
    try:
        yield file
    finally:
        os.close(file)


def taken(file: int) -> bool:
    """Try to lock an open file alone; return False if another process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
