"""What measurements come to: quantiles, rates in blocks, gaps in what a watcher was told. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rates import Spread, percentile


@dataclass(frozen=True, slots=True)
class Delays:
    """How long something took, many times."""

    count: int
    p50_ms: float
    p99_ms: float
    most_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Delays:
        """Return that of one delay at least."""
        p50, p99, most = (1000 * percentile(seconds, share) for share in (0.5, 0.99, 1))
        return cls(len(seconds), p50, p99, most)


def rates(moments: Sequence[float], began: float, block: int) -> Spread:
    """Return events a second in blocks of so many, of at least that many moments."""
    ordered = [began, *sorted(moments)]
    ends = range(block, len(ordered), block)
    return Spread.of(block / (ordered[end] - ordered[end - block]) for end in ends)


@dataclass(frozen=True, slots=True)
class Told:
    """What watchers were told of records: how many, in what time, how late, and whether any was
    left out or came twice."""

    events: int
    per_s: float
    delay: Delays
    left_out: int
    twice: int

    @classmethod
    def of(cls, watchers: Sequence[Sequence[tuple[float, float, int]]], seconds: float) -> Told:
        """Return that of watchers, each with moment told, moment heard, and number of the record,
        in the order heard; one event at least."""
        delays = [heard - told for each in watchers for told, heard, _ in each]
        left_out = twice = 0
        for each in watchers:
            numbers = [number for _, _, number in each]
            twice += len(numbers) - len(set(numbers))
            if numbers:
                left_out += max(numbers) - min(numbers) + 1 - len(set(numbers))
        rate = len(delays) / seconds
        return cls(len(delays), rate, Delays.of(delays), left_out, twice)


def bound(before: Mapping[float, float], after: Mapping[float, float], share: float) -> float:
    """Return the bound of a histogram's bucket that so large a share of what was counted between
    two looks lies in or below; the counts are of all up to each bound. 0 if nothing was."""
    added = {limit: after[limit] - before.get(limit, 0) for limit in sorted(after)}
    total = max(added.values(), default=0)
    return next((limit for limit, count in added.items() if 0 < share * total <= count), 0.0)
