"""Reads lines by number from files that only grow, without reading them from the start again."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass, field

# Lines between two remembered positions: a read passes over fewer than this many.
_STRIDE = 256
# Files whose positions are remembered.
_MAX_FILES = 512
_BLOCK = 1 << 16
# Bytes of a line that are given; what follows up to its end is passed over. A record has a few
# hundred, but the file lies where a user's program can write whatever it likes.
_MOST_LINE_BYTES = 1 << 20
# A line of which this much was read without an end is not waited for: it counts as torn.
_MOST_TORN_BYTES = 1 << 26


@dataclass(slots=True)
class _Known:
    """Byte offset of line number * _STRIDE of one file, for those that were read past."""

    inode: int
    offsets: dict[int, int] = field(default_factory=lambda: {0: 0})


class LineFiles:
    """Remembers where lines begin, by a key that names the file for good.

    Safe to use from several threads: what is remembered of a growing file is true for ever.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], _Known] = OrderedDict()

    def read(self, key: tuple[str, int], fd: int, start: int, limit: int) -> list[str]:
        """Return up to limit complete lines from line number start on, without line ends."""
        known = self._of(key, os.fstat(fd).st_ino)
        # What is remembered has no gaps: a read passes over each line in turn.
        number = min(start // _STRIDE, len(known.offsets) - 1)
        offset, number = known.offsets[number], number * _STRIDE
        lines: list[str] = []
        line, size = bytearray(), 0  # what is kept of the line at the offset, and what was read
        while len(lines) < limit and size < _MOST_TORN_BYTES:
            block = os.pread(fd, _BLOCK, offset + size)
            if not block:
                break
            *ends, rest = block.split(b"\n")
            for part in ends:
                line += part[: _MOST_LINE_BYTES - len(line)]
                if number >= start and len(lines) < limit:
                    lines.append(line.decode(errors="replace"))
                offset += size + len(part) + 1
                number += 1
                line, size = bytearray(), 0
                if number % _STRIDE == 0:
                    known.offsets[number // _STRIDE] = offset
            line += rest[: _MOST_LINE_BYTES - len(line)]
            size += len(rest)
        return lines

    def forget(self, owner: str) -> None:
        """Drop what is remembered of the files whose key begins with that owner."""
        for key in [key for key in self._known.copy() if key[0] == owner]:
            self._known.pop(key, None)

    def _of(self, key: tuple[str, int], inode: int) -> _Known:
        known = self._known.pop(key, None)
        if known is None or known.inode != inode:
            known = _Known(inode)
        self._known[key] = known
        while len(self._known) > _MAX_FILES:
            self._known.popitem(last=False)
        return known
