"""Keeps a second controller out of a state folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from controller.errors import ClusterUnavailable

_LOCK_FILE = "controller.lock"


class StateLock:
    """Owns a state folder while the block runs; the kernel lets go when the process dies.

    Entering raises ClusterUnavailable, naming the process that owns the folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._fd = -1

    def __enter__(self) -> StateLock:
        path = self._home / _LOCK_FILE
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ClusterUnavailable(
                f"{path}: {error.strerror}; choose a state folder that can be written"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise ClusterUnavailable(
                f"{self._home} is in use by the controller with process id {owner}; "
                "stop it with `taas down`, or choose another state folder"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd
        return self

    def __exit__(self, *_: object) -> None:
        # The file stays: removing it would let two owners lock two files of one name.
        os.close(self._fd)
