"""A worker's log file: appended to line by line, bounded, and never in the training's way."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from trainer import logparts
from trainer.storage import open_regular

_log = logging.getLogger(__name__)

# What a program prints first says how it was set up, what it prints last how it ended. Together
# 64 MiB.
FIRST_BYTES = 32 * 1024 * 1024
PART_BYTES = 8 * 1024 * 1024
PARTS_KEPT = 4


class LogFile:
    """Writes one worker's log: a first part, and the newest of those that follow it. Blocking
    calls; the caller sees to it that they do not overlap.

    A log that cannot be written is noted once in the agent's own log and its lines are lost;
    each reopen tries again.
    """

    def __init__(
        self, first: Path, *, first_bytes: int = FIRST_BYTES, part_bytes: int = PART_BYTES
    ) -> None:
        self._first = first
        self._first_bytes = first_bytes
        self._part_bytes = part_bytes
        self._file: int | None = None
        self._begin = 0
        self._size = 0

    def reopen(self) -> None:
        """Open the newest part, creating the log and its folder if need be."""
        self.close()
        try:
            self._first.parent.mkdir(parents=True, exist_ok=True)
            self._open(max(logparts.begins(self._first), default=0))
        except OSError as error:
            self._give_up(error)

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, given without their ends."""
        if self._file is None:
            return
        data = b"".join(line + b"\n" for line in lines)
        room = self._part_bytes if self._begin else self._first_bytes
        try:
            if self._size and self._size + len(data) > room:
                self._open(self._begin + self._size)
                self._remove_old()
            self._size += len(data)
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self._give_up(error)

    def read(self, offset: int, most: int) -> tuple[int, bytes]:
        """Return at most so many bytes and where they begin: at the offset, or later if what was
        there is not kept. b"" at the end or if it fails."""
        try:
            return logparts.read(self._first, offset, most, _read)
        except (OSError, ValueError, OverflowError):
            return offset, b""

    def close(self) -> None:
        """Close the file; nothing is written until it is opened again."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def _open(self, begin: int) -> None:
        self.close()
        path = logparts.part(self._first, begin)
        # NONBLOCK: of a pipe that the program put there, nobody waits for the other end.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
        self._file = os.open(path, flags, 0o644)
        self._begin, self._size = begin, os.fstat(self._file).st_size

    def _remove_old(self) -> None:
        later = [begin for begin in logparts.begins(self._first) if begin]
        for begin in later[:-PARTS_KEPT]:
            logparts.part(self._first, begin).unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        _log.warning("%s cannot be written (%s); training goes on without it", self._first, error)
        self.close()


def _read(path: Path, offset: int, most: int) -> bytes:
    with open_regular(path) as file:
        file.seek(offset)
        return file.read(most)
