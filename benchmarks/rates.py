"""What turns come to: rates, their ratios, CPU time and memory. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.sides import OF_A_WORKER


class Measured(Protocol):
    """Turns of one side, see `turns.Turns`."""

    def steps(self, first: int, end: int) -> float:
        """Steps made in turns."""

    def seconds(self, first: int, end: int) -> float:
        """Active seconds of turns."""

    def cpu(self, first: int, end: int) -> Mapping[str, float]:
        """CPU seconds of turns by kind of process."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a side did in a block of turns."""

    examples_per_s: float
    steps: float
    seconds: float
    cpu_ms_a_step: Mapping[str, float]

    @classmethod
    def of(cls, turns: Measured, first: int, count: int, *, batch: int) -> Rate:
        """Return that of `count` turns; a step takes `batch` examples."""
        end = first + count
        steps, seconds = turns.steps(first, end), turns.seconds(first, end)
        cpu = {kind: 1000 * used / steps for kind, used in turns.cpu(first, end).items()}
        return cls(steps * batch / seconds, steps, seconds, cpu)

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a step of all processes together."""
        return sum(self.cpu_ms_a_step.values())


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several values, with the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return that of values, of which there is one at least."""
        known = sorted(values)
        return cls(statistics.median(known), known[0], known[-1])

    def text(self, digits: int) -> str:
        """Return it as text.

        >>> Spread(1.0, 0.5, 2.0).text(1)
        '1.0 (0.5 to 2.0)'
        """
        return f"{self.median:.{digits}f} ({self.least:.{digits}f} to {self.greatest:.{digits}f})"


@dataclass(frozen=True, slots=True)
class Block:
    """The turns of both sides that are compared with each other."""

    ours: Rate
    theirs: Rate

    @property
    def rate_ratio(self) -> float:
        """Our rate by theirs."""
        return self.ours.examples_per_s / self.theirs.examples_per_s

    @property
    def cpu_ratio(self) -> float:
        """Our CPU time a step by theirs."""
        return self.ours.cpu_ms / self.theirs.cpu_ms


def a_worker(by_kind: Mapping[str, float], workers: int) -> float:
    """Return each worker's share of something that is known by kind of process.

    >>> a_worker({"trainers": 600, "agents": 200, "controller": 70}, 2)
    400.0
    """
    return sum(amount for kind, amount in by_kind.items() if kind in OF_A_WORKER) / workers


def cpu_ms_for(rates: Sequence[Rate], examples: int, *, batch: int) -> float:
    """Return the CPU milliseconds that so many examples cost, all processes together; a step
    takes `batch`."""
    return statistics.median(rate.cpu_ms for rate in rates) * examples / batch


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of all values lies at or below.

    >>> percentile([1, 2, 3, 4], 0.5)
    2
    """
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
