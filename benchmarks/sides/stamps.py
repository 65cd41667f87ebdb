"""What a program says of its steps: JSON lines at one end, the ends of its calls at the other."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from benchmarks.sides import SideFailed

# Of a hung program only.
_BOUND_S = 600


class Teller:
    """Writes a program's lines, each at once and in one piece."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @classmethod
    def on_standard_output(cls) -> Teller:
        """Tell on the standard output, and let all else that is printed go to standard error:
        TensorFlow and Keras talk as well."""
        file = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        return cls(file)

    @classmethod
    def at(cls, path: Path) -> Teller:
        """Tell through a named pipe; several programs may."""
        return cls(path.open("w"))

    def step(self, step: int) -> None:
        """Say that so many steps are done."""
        self.say({"step": step, "time": time.time()})

    def trainer(self) -> None:
        """Say that this process is a trainer."""
        self.say({"trainer": os.getpid()})

    def say(self, what: object) -> None:
        """Say it."""
        self._file.write(json.dumps(what) + "\n")
        self._file.flush()


class Stamps:
    """The ends of a program's calls, as a thread of its own takes them in."""

    def __init__(self) -> None:
        self._stamps: list[tuple[float, float]] = []
        self._changed = threading.Condition()
        self._ended: str | None = None

    def add(self, at: float, step: int) -> None:
        """Note that so many steps were done at `at`, seconds since the epoch."""
        with self._changed:
            self._stamps.append((at, step))
            self._changed.notify_all()

    def end(self, why: str) -> None:
        """Note that no more will come."""
        with self._changed:
            self._ended = why
            self._changed.notify_all()

    def all(self) -> Sequence[tuple[float, float]]:
        """Return them all. Raises SideFailed if the program ended by itself, which none should."""
        with self._changed:
            if self._ended is not None:
                raise SideFailed(f"it ended before its time: {self._ended}")
            return list(self._stamps)

    def wait_for(self, step: int) -> None:
        """Wait until so many steps are done. Raises SideFailed."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._ended is not None or (self._stamps and self._stamps[-1][1] >= step),
                _BOUND_S,
            )
        if not done or self._ended is not None:
            raise SideFailed(f"no step {step} within {_BOUND_S} s: {self._ended or 'it hangs'}")
