"""Writes snapshots on a thread of its own: one is being written, and the newest one waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Until the newest save has worked, it is tried again this often.
RETRY_S = 10.0
# At the end of a training nothing else is left to do.
_LAST_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Save:
    """A snapshot to be written: values in main memory by name."""

    step: int
    values: Mapping[str, Any]
    metrics: Mapping[str, float]


class Saves:
    """The hand-over between the training and the thread that writes.

    `write` runs on that thread and returns why a save failed, None if it worked; what it raises
    is a defect, and belongs to whoever calls next.
    """

    def __init__(self, write: Callable[[Save], str | None]) -> None:
        """Start nothing yet."""
        self._write = write
        # Guards all below.
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # The save that waits, and the step of the newest one accepted.
        self._waiting: Save | None = None
        self._accepted: int | None = None
        self._busy = False
        self._give_up_at: float | None = None  # set while the training waits for the end
        # The newest save if it has failed, and why. Its values stay in memory until another one
        # is accepted: at the end of a training they are all there is.
        self._failed: Save | None = None
        self._failure: str | None = None
        self._defect: BaseException | None = None

    @property
    def failing(self) -> bool:
        """True while the newest save has failed."""
        return self._failure is not None

    def has(self, step: int) -> bool:
        """Say whether a step is saved, or is being saved. Raises a defect of `write`."""
        with self._changed:
            self._raise_defect()
            return step == self._accepted and (self._busy or self._failure is None)

    def put(self, save: Save) -> None:
        """Accept a save; one that waits gives way to it."""
        with self._changed:
            self._waiting, self._accepted, self._busy = save, save.step, True
            self._failed = None
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._write_all, name="checkpoint-writer", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def finish(self, patience_s: float) -> str | None:
        """Return when nothing is left to write: None, or why the last save failed, which is
        tried again for that long. Raises a defect of `write`."""
        with self._changed:
            self._give_up_at = time.monotonic() + patience_s
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            self._thread, self._give_up_at = None, None
            self._raise_defect()
            return self._failure

    # The writer's thread.

    def _write_all(self) -> None:
        try:
            while (save := self._next()) is not None:
                failure = self._write(save)
                with self._changed:
                    self._failure, self._busy = failure, self._waiting is not None
                    if failure is not None and self._waiting is None:
                        self._failed = save
                # The values are memory that the training may need.
                del save
        except BaseException as error:
            with self._changed:
                self._defect = error

    def _next(self) -> Save | None:
        with self._changed:
            while self._waiting is None:
                left = self._left()
                if left is None:
                    self._changed.wait()
                elif self._failed is None or left <= 0:
                    return None
                elif not self._changed.wait(min(left, _LAST_RETRY_S)):
                    # The training waits in `finish`, so no newer one can have come meanwhile.
                    self._waiting = self._failed
            save, self._waiting, self._failed = self._waiting, None, None
            return save

    def _left(self) -> float | None:
        """Return the seconds for which a failed save is still tried, None while training."""
        return None if self._give_up_at is None else self._give_up_at - time.monotonic()

    def _raise_defect(self) -> None:
        if self._defect is not None:
            raise self._defect
