"""What the chief alone has: the records and curves of a generation, and who announces saves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainer import progress
from trainer.checkpoints import Checkpoints, Chosen
from trainer.contract import Assignment
from trainer.preparation import paths_of
from trainer.relay import Relay
from trainer.storage import Evaluated, Manifest


@dataclass
class Chief:
    """Where the training is told of."""

    records: progress.Records
    curves: progress.Curves
    # Of another thread than the curves, once training has begun.
    insights: progress.Curves
    reports: progress.Reports
    # None where no evaluator is beside the training.
    relay: Relay | None = None
    _failing: bool = False

    def saved(self, manifest: Manifest) -> None:
        """Tell of a committed checkpoint."""
        self.records.checkpoint(manifest)
        if self._failing:
            self._failing = False
            self.reports.saving("")

    def not_saved(self, why: str) -> None:
        """Tell of a save that failed. The record of it waits until there is room for it, so the
        agent is told apart from that."""
        self.reports.saving(why)
        if not self._failing:
            self.records.notice("CheckpointFailed", why)
        self._failing = True

    def evaluated(self, found: Evaluated) -> None:
        """Tell of an evaluation on the validation set."""
        self.records.evaluation("validation", found.step, found.examples, found.metrics)
        self.curves.point("validation", found.step, found.metrics)

    def began(self, step: int, chosen: Chosen | None, skipped: tuple[str, ...]) -> None:
        """Tell from which checkpoint this generation begins, and which ones cannot be used."""
        if chosen:
            self.records.restored(step, chosen.id, skipped)
        elif skipped:
            reasons = "; ".join(skipped)
            self.records.notice(
                "CheckpointsDamaged", f"no checkpoint is sound, starting anew: {reasons}"
            )


def chief_of(assignment: Assignment, reports: progress.Reports) -> Chief | None:
    """Return what the chief has, None for every other member. To be closed. Raises
    StorageError."""
    if not assignment.is_chief:
        return None
    paths = paths_of(assignment)
    records = progress.Records(
        paths.record_file(assignment.generation),
        generation=assignment.generation,
        reports=reports,
    )
    curves, insights = (
        progress.Curves(
            paths.output / "tensorboard",
            on_failed=lambda message: records.notice("CurvesFailed", message),
        )
        for _ in range(2)
    )
    chief = Chief(records, curves, insights, reports)
    if assignment.evaluator:
        chief.relay = Relay(paths, chief.evaluated)
    return chief


def checkpoints_of(
    assignment: Assignment,
    chief: Chief | None,
    then: Callable[[Manifest], None] = lambda manifest: None,
) -> Checkpoints:
    """Return the checkpoints of this generation.

    On the chief `then` is called with each when it is committed, beside the training.
    """
    return Checkpoints(
        paths_of(assignment),
        generation=assignment.generation,
        policy=assignment.checkpointing,
        on_saved=_announce(chief, then),
        on_failed=_warn(chief),
    )


def _announce(chief: Chief | None, then: Callable[[Manifest], None]) -> Callable[[Manifest], None]:
    def saved(manifest: Manifest) -> None:
        if chief:
            chief.saved(manifest)
            then(manifest)

    return saved


def _warn(chief: Chief | None) -> Callable[[str], None]:
    def failed(message: str) -> None:
        if chief:
            chief.not_saved(message)

    return failed
