"""Opens and lists files below a folder that programs of users write to, without following links.

A user's program may put a link anywhere in its own folders, at any moment. So every component of
a path is opened relative to the one before, and a link is refused where it stands.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from controller.errors import LimitExceeded

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# NONBLOCK: opening a pipe must not wait for its other end.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# What opening something reports that is not there as a plain file.
_NOT_THERE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EISDIR,
    errno.ENXIO,
    errno.ENAMETOOLONG,
)
MOST_FILES = 100_000
_MOST_NAME_CHARS = 8 * 1024 * 1024
# Name prefix of what is still being written.
_UNFINISHED = ".tmp"


def is_plain(path: str) -> bool:
    """Say whether a relative path, written with forward slashes, stays where it begins."""
    return "\0" not in path and all(part not in ("", ".", "..") for part in path.split("/"))


def open_file(root: Path, path: Path) -> int:
    """Open a regular file below the root for reading. Raises FileNotFoundError if there is none
    that can be reached without a link, OSError otherwise."""
    relative = path.relative_to(root)
    try:
        folder = _open_folder(root, relative.parent)
        try:
            fd = os.open(relative.name, _FILE_FLAGS, dir_fd=folder)
        finally:
            os.close(folder)
    except (OSError, ValueError) as error:
        raise _not_there(path, error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "is no regular file", str(path))
    return fd


def listing(root: Path, tree: Path) -> tuple[tuple[str, int], ...]:
    """Return (path, bytes) of the regular files of a tree below the root, sorted; () if there is
    no such tree. Links, unfinished files and names that are no UTF-8 are left out. Raises
    LimitExceeded for a tree too large to be listed."""
    try:
        folder = _open_folder(root, tree.relative_to(root))
    except OSError as error:
        if error.errno in _NOT_THERE:
            return ()
        raise
    found, size = [], 0
    try:
        for path, bytes_ in _walk(folder):
            found.append((path, bytes_))
            size += len(path)
            check_listable(len(found), size)
    finally:
        os.close(folder)
    return tuple(sorted(found))


def check_listable(files: int, name_chars: int) -> None:
    """Raise LimitExceeded if so many files, with names so long together, are too many for one
    listing: it is held in memory and sent in one message."""
    if files > MOST_FILES or name_chars > _MOST_NAME_CHARS:
        raise LimitExceeded(
            "files",
            f"more than {MOST_FILES} files, or {_MOST_NAME_CHARS} characters of names, cannot be "
            "listed; let the job pack them into archives",
        )


def _walk(folder: int) -> Iterator[tuple[str, int]]:
    for path, folders, names, fd in os.fwalk(".", dir_fd=folder):
        folders[:] = [name for name in folders if _shown(name)]
        for name in filter(_shown, names):
            try:
                seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(seen.st_mode):
                yield os.path.normpath(os.path.join(path, name)), seen.st_size


def _shown(name: str) -> bool:
    # A name that is no UTF-8 comes with lone surrogates, which no message can carry.
    return not name.startswith(_UNFINISHED) and not any("\ud800" <= c <= "\udfff" for c in name)


def _open_folder(root: Path, relative: Path) -> int:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in relative.parts:
        try:
            below = os.open(part, _FOLDER_FLAGS, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _not_there(path: Path, error: OSError | ValueError) -> OSError:
    if isinstance(error, ValueError) or error.errno in _NOT_THERE:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return error
