"""Removes folder trees that programs of users made, whatever they did to them."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

# Rounds against writers that hold the folder open; each round removes all it finds.
_ROUNDS = 10


def remove_tree(path: Path) -> None:
    """Remove a tree; nothing happens if it is gone.

    It is renamed first, so that whoever still writes there by its name finds nothing any more; a
    removal that was interrupted is finished by the next one. Modes that forbid it are changed.
    Raises OSError when something cannot be removed.
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
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:
                shutil.rmtree(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            failure = error
            _open_up(path)
    if os.path.lexists(path):
        raise failure or OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))


def _open_up(path: Path) -> None:
    """Give the owner all rights on every folder of a tree."""
    with suppress(OSError):
        path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for name in names:
            below = Path(folder, name)
            if not below.is_symlink():
                with suppress(OSError):
                    below.chmod(0o700)
