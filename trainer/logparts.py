"""Where the bytes of a worker's log lie: its first part, and the newest ones. Stdlib only.

A byte has the same offset for ever, whatever was removed before it, so that readers go on where
they were. A part is named by the offset at which it begins; the first has the plain name.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path


def part(first: Path, begin: int) -> Path:
    """Return the part of a log that begins there; `first` is the one that begins at 0."""
    return first.with_name(f"{first.name}.{begin}") if begin else first


def begins(first: Path) -> list[int]:
    """Return where the parts begin that there are, ascending. Raises OSError."""
    try:
        names = os.listdir(first.parent)
    except (FileNotFoundError, NotADirectoryError):
        return []
    prefix = f"{first.name}."
    later = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    found = [int(number) for number in later if number.isascii() and number.isdecimal()]
    return sorted(begin for begin in (*found, *([0] if first.name in names else [])) if begin >= 0)


def read(
    first: Path, offset: int, most: int, read_file: Callable[[Path, int, int], bytes]
) -> tuple[int, bytes]:
    """Return at most so many bytes and where they begin: at the offset, or later if what was
    there is not kept. b"" at the end.

    read_file(path, offset, most) reads one part. Raises OSError.
    """
    there = begins(first)
    while there:
        position = max(0, bisect_right(there, offset) - 1)
        for begin in there[position : position + 2]:
            try:
                data = read_file(part(first, begin), max(0, offset - begin), most)
            except FileNotFoundError:
                # Removed since the folder was listed, and with it all before it but the first.
                there.remove(begin)
                break
            if data:
                return max(offset, begin), data
        else:
            break
    return offset, b""


def size(first: Path, size_of: Callable[[Path], int]) -> int:
    """Return the offset behind the newest byte; size_of is that of one part. Raises OSError."""
    there = begins(first)
    return there[-1] + size_of(part(first, there[-1])) if there else 0
