"""Two programs that take turns on one machine: while one runs, the other stands still.

What else the machine does changes within minutes; turns of seconds share it out to both alike.
A program's rate is its steps by the time that it was let run, its active time.
"""

from __future__ import annotations

import os
import signal
import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Protocol

import psutil


class Side(Protocol):
    """A program that trains, and what it says of its steps."""

    @property
    def checkpoint_times(self) -> Sequence[float]:
        """When it has saved a checkpoint, in seconds since the epoch."""

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """Its processes with the kind of each, parents before children."""

    def stamps(self) -> Sequence[tuple[float, float]]:
        """The ends of its calls so far as (seconds since the epoch, steps done)."""

    def wait_for(self, step: int) -> None:
        """Wait until so many steps are done."""

    def check(self) -> None:
        """Fail unless it trained through undisturbed."""

    def close(self) -> None:
        """End it."""


class Turns:
    """One side's turns: when it ran, and the CPU seconds its processes had used at each end.

    Turn 0 is all until the first stop. Leaving the context lets the side
    run, so that it can be ended.
    """

    def __init__(self, side: Side) -> None:
        self.side = side
        # In seconds since the epoch, one after the other; the last may be open.
        self.ran: list[tuple[float, float | None]] = [(time.time(), None)]
        self.cpu_s: list[dict[str, float]] = []

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        for _kind, process in self.side.processes():
            _signal(process, signal.SIGCONT)

    def stop(self) -> None:
        """Let the side stand still."""
        for _, process in self.side.processes():
            _signal(process, signal.SIGSTOP)
        began, _ = self.ran[-1]
        self.ran[-1] = (began, time.time())
        self.cpu_s.append(_cpu_by_kind(self.side.processes()))

    def go(self) -> None:
        """Let the side run."""
        self.ran.append((time.time(), None))
        # Children first: who waits for an answer finds the one that gives it awake.
        for _, process in reversed(self.side.processes()):
            _signal(process, signal.SIGCONT)

    def take(self, seconds: float) -> None:
        """Run for so long, then stand still."""
        self.go()
        time.sleep(seconds)
        self.stop()

    def finish(self) -> None:
        """Run until one more call has ended, so that the last turn's part of it is known."""
        self.go()
        self.side.wait_for(int(self.side.stamps()[-1][1]) + 1)
        self.stop()

    def steps(self, first: int, end: int) -> float:
        """Return the steps made in the turns `first` to before `end`.

        Between two ends of calls steps are taken to be even: a turn seldom ends with a call.
        """
        turns = [(a, b) for a, b in self.ran if b is not None]
        known = [(active(at, turns), steps) for at, steps in self.side.stamps()]
        before = sum(b - a for a, b in turns[:first])
        after = sum(b - a for a, b in turns[:end])
        return at_time(after, known) - at_time(before, known)

    def seconds(self, first: int, end: int) -> float:
        """Return the active seconds of the turns `first` to before `end`."""
        return sum(b - a for a, b in self.ran[first:end] if b is not None)

    def cpu(self, first: int, end: int) -> dict[str, float]:
        """Return the CPU seconds used in the turns `first` (not 0) to before `end`, by kind."""
        before, after = self.cpu_s[first - 1], self.cpu_s[end - 1]
        return {kind: used - before.get(kind, 0.0) for kind, used in after.items()}


def active(at: float, turns: Iterable[tuple[float, float]]) -> float:
    """Return how long a side had run at the time `at`, in the unit of both.

    >>> active(25, [(0, 10), (20, 30)])
    15
    """
    return sum(min(at, end) - began for began, end in turns if began < at)


def at_time(at: float, known: Sequence[tuple[float, float]]) -> float:
    """Return the value at `at` on the straight lines through points in the order of their times.

    Beyond the first and the last point the nearest two give the line.

    >>> at_time(5, [(0, 0), (10, 100)])
    50.0
    """
    if len(known) < 2:
        raise ValueError(f"two points are needed, not {len(known)}")
    times = [point[0] for point in known]
    right = min(max(bisect_right(times, at), 1), len(known) - 1)
    (t0, v0), (t1, v1) = known[right - 1], known[right]
    return v0 + (v1 - v0) * (at - t0) / (t1 - t0)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _cpu_by_kind(processes: Iterable[tuple[str, psutil.Process]]) -> dict[str, float]:
    used: dict[str, float] = {}
    for kind, process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            used[kind] = used.get(kind, 0.0) + times.user + times.system
    return used
