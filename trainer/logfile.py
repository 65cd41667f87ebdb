"""A worker's log file: appended to line by line, bounded, and never in the training's way."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

_log = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024 * 1024


class LogFile:
    """Writes one worker's log. Blocking calls; the caller sees to it that they do not overlap.

    A log that cannot be written is noted once in the agent's own log and its lines are lost;
    each reopen tries again.
    """

    def __init__(self, path: Path, *, limit: int = MOST_BYTES) -> None:
        self._path = path
        self._limit = limit
        self._file: int | None = None
        self._size = 0

    def reopen(self) -> None:
        """Open the file, creating it and its folder if need be."""
        self.close()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            self._give_up(error)

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, given without their ends."""
        if self._file is None or self._size >= self._limit:
            return
        data = b"".join(line + b"\n" for line in lines)
        if self._size + len(data) > self._limit:
            whole = data.rfind(b"\n", 0, self._limit - self._size) + 1
            note = f"--- the log is full ({self._limit >> 20} MiB); the rest is dropped ---\n"
            data = data[:whole] + note.encode()
            self._size = self._limit
        self._size += len(data)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self._give_up(error)

    def read(self, offset: int, most: int) -> bytes:
        """Return at most so many bytes from a position on; b"" at the end or if it fails."""
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                return file.read(most)
        except (OSError, ValueError, OverflowError):
            return b""

    def close(self) -> None:
        """Close the file; nothing is written until it is opened again."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None

    def _give_up(self, error: OSError) -> None:
        _log.warning("%s cannot be written (%s); training goes on without it", self._path, error)
        self.close()
