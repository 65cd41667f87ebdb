"""Removes folder trees that programs of users made, whatever they did to them."""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import suppress
from pathlib import Path

# Rounds against writers that hold the folder open; each round removes all it finds.
_ROUNDS = 10
# Levels that a round goes down. What lies deeper is moved up first: neither the stack nor the open
# descriptors may depend on how deep a program digs, and no path can name what lies deep enough.
_LEVELS = 32

# A handle that needs no right on the folder, and follows no link.
_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Remove a tree of any depth; nothing happens if it is gone.

    It is renamed first, so that whoever still writes there by its name finds nothing any more; a
    removal that was interrupted is finished by the next one. Modes that forbid it are changed.
    Links are removed, never followed. Raises OSError when something cannot be removed.
    """
    removed = path.with_name(f".removed-{path.name}")
    _remove(removed)
    with suppress(FileNotFoundError):
        path.rename(removed)
    _remove(removed)


def _remove(path: Path) -> None:
    failure: OSError | None = None
    for _ in range(_ROUNDS):
        if not os.path.lexists(path):
            return
        try:
            _remove_once(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            failure = error
    if os.path.lexists(path):
        raise failure or OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))


def _remove_once(path: Path) -> None:
    try:
        path.unlink()
    except IsADirectoryError:
        top = _open_folder(str(path))
        try:
            _Round(top).clear()
        finally:
            os.close(top)
        path.rmdir()


class _Round:
    """One round over an open folder. It goes on past what cannot be removed."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._moved = False
        self._failure: OSError | None = None

    def clear(self) -> None:
        """Remove all that is in the folder. Raises the first OSError in the end."""
        self._clear(self._top, _LEVELS)
        while self._moved:
            self._moved = False
            self._clear(self._top, _LEVELS)
        if self._failure is not None:
            raise self._failure

    def _clear(self, folder: int, levels: int) -> None:
        for name in os.listdir(folder):
            try:
                self._remove(name, folder, levels)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._failure = self._failure or error

    def _remove(self, name: str, folder: int, levels: int) -> None:
        try:
            os.unlink(name, dir_fd=folder)
            return
        except IsADirectoryError:
            pass
        below = _open_folder(name, folder)
        try:
            if levels > 0:
                self._clear(below, levels - 1)
            elif os.listdir(below):
                os.rename(name, uuid.uuid4().hex, src_dir_fd=folder, dst_dir_fd=self._top)
                self._moved = True
                return
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=folder)


def _open_folder(name: str, above: int | None = None) -> int:
    """Open a folder that is no link, and give its owner all rights on it: to empty it takes them,
    and so does to move it."""
    handle = os.open(name, _HANDLE, dir_fd=above)
    try:
        if os.fstat(handle).st_mode & 0o700 != 0o700:
            # By its descriptor, for what bears the name may change at any moment. Who is not the
            # owner may have the rights by the group's.
            with suppress(OSError):
                os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)
