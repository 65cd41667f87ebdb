"""Catches a training at a moment: its trainers stand still while it lasts.

A moment is seen from outside, by processes and files. When it is there the trainers are stopped
and it is looked at again, so that it is certain and not likely: a fault strikes at that very
moment. A trainer may stand for 2 s before its agent takes it for frozen.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import workers
from tests.faults.cells import Moment
from tests.faults.workers import Process, until
from trainer.storage import MANIFEST, parse_checkpoint_id


@dataclass
class Subject:
    """A job of two workers as it is seen from outside. folder: its part of the storage."""

    uid: str
    folder: Path
    steps: int
    members: int = 2
    _known: dict[int, Process] = field(default_factory=dict)

    def trainers(self) -> dict[int, Process]:
        """The living trainers by worker, if all are there, else none."""
        if not (self._known and all(p.lives for p in self._known.values())):
            found = workers.trainers(self.uid)
            self._known = found if len(found) == self.members else {}
        return self._known

    @property
    def generation(self) -> int:
        """The newest that has written anything."""
        files = sorted(self._names("records", "g*.jsonl"))
        return int(files[-1][1:7]) if files else 0

    @property
    def trained(self) -> bool:
        """Whether the newest generation has told of a step."""
        path = self.folder / "records" / f"g{self.generation:06d}.jsonl"
        return path.exists() and '"progress"' in path.read_text()

    def saved(self) -> list[int]:
        """Steps of the committed checkpoints."""
        return [s for name, s in self._checkpoints() if self._committed(name)]

    def saving(self) -> bool:
        """Whether a checkpoint is begun and not committed."""
        return any(not self._committed(name) for name, _ in self._checkpoints())

    def restoring(self) -> bool:
        """Whether the chief reads a checkpoint."""
        chief = self.trainers().get(0)
        if chief is None:
            return False
        try:
            folder = f"/proc/{chief.pid}/fd"
            targets = [os.readlink(f"{folder}/{number}") for number in os.listdir(folder)]
        except OSError:
            return False
        return any("/checkpoints/step-" in target for target in targets)

    def _committed(self, name: str) -> bool:
        return (self.folder / "checkpoints" / name / MANIFEST).exists()

    def _checkpoints(self) -> list[tuple[str, int]]:
        names = self._names("checkpoints", "step-*")
        found = [(name, parse_checkpoint_id(name)) for name in names]
        return [(name, parsed[0]) for name, parsed in found if parsed]

    def _names(self, folder: str, pattern: str) -> list[str]:
        return [path.name for path in (self.folder / folder).glob(pattern)]


def caught(subject: Subject, moment: Moment) -> dict[int, Process]:
    """The stopped trainers of a job at a moment, by worker."""
    if moment is Moment.RESTORING:
        _kill_one(subject)
    held: dict[int, Process] = {}

    def hold() -> bool:
        nonlocal held
        if not _is(subject, moment):
            return False
        held = dict(subject.trainers())
        workers.stop(held.values())
        if _is(subject, moment) and all(p.lives for p in held.values()):
            return True
        workers.go_on(held.values())
        return False

    def reached() -> bool:
        if moment is Moment.RESTORING and subject.generation > 1 and subject.trained:
            # It was over before anybody saw it.
            _kill_one(subject)
        return hold()

    until(reached, moment.value, every_s=0.002)
    return held


def _kill_one(subject: Subject) -> None:
    """End a trainer after a checkpoint, so that another generation has something to restore."""
    until(lambda: subject.saved() and subject.trainers() and subject.trained, "a checkpoint")
    before = dict(subject.trainers())
    before[1].send(signal.SIGKILL)
    until(lambda: not any(p.lives for p in before.values()), "the generation to end")


def _is(subject: Subject, moment: Moment) -> bool:
    if not subject.trainers():
        return False
    if moment is Moment.STARTING:
        return not subject.trained
    if moment is Moment.BEFORE_CHECKPOINT:
        return subject.trained and not subject.saved()
    if moment is Moment.RESTORING:
        return subject.restoring()
    saved = subject.saved()
    if moment is Moment.FINISHING:
        return subject.steps in saved
    under_way = bool(saved) and max(saved) < subject.steps and subject.trained
    return under_way and subject.saving() is (moment is Moment.SAVING)
