"""The error of every data reader."""

from __future__ import annotations

import os


class DataError(ValueError):
    """Data that cannot be used as it is; says which file, which place in it, and the remedy."""


def unreadable(path: str | os.PathLike[str], error: OSError) -> DataError:
    """Return the error for a file or folder that the operating system refuses to hand out."""
    path = os.fspath(path)
    if isinstance(error, FileNotFoundError):
        remedy = f"check the path (relative paths begin at {os.getcwd()})"
    elif isinstance(error, PermissionError):
        remedy = "make it readable for the user that trains"
    else:
        remedy = "check the path and the storage it lies on"
    return DataError(f"{path}: {error.strerror or error}; {remedy}")
