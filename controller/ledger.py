"""Where a job's time goes: its wall clock, cut into parts, and what each restart costs. Pure.

Every moment from the first start to the end, but not while the job is held by its user, belongs
to exactly one part. Frozen values; times are aware, spans are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum


class Part(Enum):
    """What a moment is spent on. Values are the names of the wire enum without its prefix."""

    USEFUL = "USEFUL"  # making steps for the first time
    OTHER = "OTHER"  # the first start, evaluation, export, the end
    # What a restart costs:
    DETECTION = "DETECTION"  # from the fault until the controller knows of it
    STOP = "STOP"  # until the generation has ended everywhere
    START = "START"  # waiting for workers and back-off, processes, connecting, compiling
    RESTORE = "RESTORE"  # choosing, verifying and reading the checkpoint
    RECOMPUTE = "RECOMPUTE"  # making steps again that were lost


# How many restarts are told of one by one; the totals have all.
_KEPT = 10


@dataclass(frozen=True, slots=True)
class Lost:
    """Seconds that restarts cost, by part."""

    detection: float = 0.0
    stop: float = 0.0
    start: float = 0.0
    restore: float = 0.0
    recompute: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.detection + self.stop + self.start + self.restore + self.recompute

    def plus(self, part: Part, seconds: float) -> Lost:
        """Return these and some more of a part that is a cost."""
        name = part.value.lower()
        return replace(self, **{name: getattr(self, name) + seconds})


@dataclass(frozen=True, slots=True)
class RestartCost:
    """What it costs to go on after a generation that has ended early.

    reason: that of its failure, "Planned" if it was asked to save and leave. steps: how many are
    made again. over: no more is added to it.
    """

    generation: int
    reason: str
    lost: Lost = field(default_factory=Lost)
    steps: int = 0
    over: bool = False


@dataclass(frozen=True, slots=True)
class Ledger:
    """The books. `part` runs since `since`, and is booked when another one begins; None: the
    clock stands. furthest_step: the newest step that an ended generation had made. restarts: the
    newest ones, the last of which may not be over."""

    part: Part | None = None
    since: datetime | None = None
    useful: float = 0.0
    other: float = 0.0
    lost: Lost = field(default_factory=Lost)
    furthest_step: int = 0
    restarts: tuple[RestartCost, ...] = ()

    @property
    def paid(self) -> RestartCost | None:
        """The restart that is being paid for now."""
        newest = self.restarts[-1] if self.restarts else None
        return newest if newest and not newest.over else None

    @property
    def total(self) -> float:
        """All seconds booked."""
        return self.useful + self.other + self.lost.total

    def booked(self, now: datetime) -> Ledger:
        """Return the books closed up to a moment; the same part goes on from there."""
        if self.part is None or self.since is None:
            return self
        seconds = max(0.0, (now - self.since).total_seconds())
        ledger = replace(self, since=max(now, self.since))
        if self.part is Part.USEFUL:
            return replace(ledger, useful=self.useful + seconds)
        if self.part is Part.OTHER or self.paid is None:
            return replace(ledger, other=self.other + seconds)
        cost = replace(self.paid, lost=self.paid.lost.plus(self.part, seconds))
        return replace(ledger.with_paid(cost), lost=self.lost.plus(self.part, seconds))

    def with_paid(self, cost: RestartCost) -> Ledger:
        """Return the books with another entry for the newest restart."""
        return replace(self, restarts=(*self.restarts[:-1], cost))

    def turned(self, part: Part | None, now: datetime) -> Ledger:
        """Return the books after a part has begun; the same one goes on unbooked."""
        if part is self.part:
            return self
        ledger = self.booked(now)
        if part is Part.USEFUL and ledger.paid is not None:
            ledger = ledger.with_paid(replace(ledger.paid, over=True))
        return replace(ledger, part=part, since=now if part else None)

    def interrupted(self, cost: RestartCost, fault_at: datetime | None, now: datetime) -> Ledger:
        """Return the books after a generation was found to end early, because of a fault at that
        moment if it is known. What lies between the two was no training."""
        if self.since is None:
            return self._opened(cost)
        fault_at = min(max(fault_at or now, self.since), now)
        ledger = self.booked(fault_at)._opened(cost)
        return replace(ledger, part=Part.DETECTION, since=fault_at)

    def _opened(self, cost: RestartCost) -> Ledger:
        before = self.restarts
        if self.paid is not None:
            before = (*before[:-1], replace(self.paid, over=True))
        return replace(self, restarts=(*before, cost)[-_KEPT:])

    def goodput(self, now: datetime) -> float:
        """Return the useful share of all time up to a moment, 0 before there is any."""
        ledger = self.booked(now)
        return ledger.useful / ledger.total if ledger.total else 0.0
