"""Runs one cell of the matrix: a small training, a fault at its moment, and what it came to."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controller.accounting import PLANNED
from protos.taas.v1.job_pb2 import (
    PHASE_SUCCEEDED,
    CheckpointPolicy,
    Phase,
    TrainingJob,
    TrainingJobSpec,
)
from tests.faults import moments, workers
from tests.faults.cells import Cell, Fault, Moment, Result
from tests.faults.site import Site, Struck, Target
from tests.faults.workers import BOUND_S, until
from tests.service.world import TASK, Story
from trainer.storage import Manifest

# More steps than anybody waits for.
ENDLESS = 1_000_000
# A second of steps, and three saves.
STEPS, SAVE_EVERY, BALLAST_MB = 300, 100, 24


# What the sums of another number of workers may do to a weight.
NOISE = 1e-3


@dataclass(frozen=True, slots=True)
class Calm:
    """What comes of the training when nothing happens: the folder and the digests of the final
    checkpoint (weights, optimizer and all), and the metrics over the test set."""

    folder: Path
    digests: dict[str, str]
    test: dict[str, float]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A small training."""

    steps: int
    workers: int = 2
    min_workers: int = 0
    save_every: int = SAVE_EVERY


def calm(site: Site, folder: Path) -> Calm:
    """Train undisturbed, and keep the final checkpoint in a new folder."""
    job = submitted(site, "calm", Wanted(STEPS))
    job = site.client.wait(job.name, BOUND_S)
    assert (job.status.phase, job.status.restarts) == (PHASE_SUCCEEDED, 0), job.status
    saved, digests = final(site, job, STEPS)
    shutil.copytree(saved, folder)
    found = Calm(folder, digests, story(site, job).test)
    site.client.delete(job.name, allow_missing=True)
    return found


def trial(site: Site, cell: Cell, undisturbed: Calm) -> Result:
    """Run a cell on its backend."""
    site.ready(cell.fault)
    job = submitted(site, cell.name, Wanted(STEPS, min_workers=1 if cell.elastic else 0))
    subject = moments.Subject(job.uid, site.folder(job), STEPS)
    held = moments.caught(subject, cell.moment)
    generation = site.client.get(job.name).status.generation
    victim = site.victim(cell, held)
    agent = workers.agent_of(job.uid, held[victim])
    assert agent is not None, "the agent is gone before anything struck"
    struck = site.strike(cell.fault, Target(job.name, job.uid, held, victim, agent))
    frozen = cell.fault is Fault.TRAINER_FROZEN
    workers.go_on(p for index, p in held.items() if not (frozen and index == victim))
    if struck.mend:
        until(lambda: _says_so(site.client.get(job.name)), "the job to say what is wrong")
        struck.mend()
        struck = Struck()
    job = site.client.wait(job.name, BOUND_S)
    site.mended()
    after = _After(cell, job, story(site, job), generation)
    wrong = [*after.wrong(), *_unlike(site, job, after.told, undisturbed, cell)]
    site.client.delete(job.name, allow_missing=True)
    gone(site, job)
    return Result("; ".join(wrong), after.reasons, after.recomputed, after.seconds(struck.at))


@dataclass(frozen=True, slots=True)
class _After:
    """A job that is over, and the generation that the fault struck."""

    cell: Cell
    job: TrainingJob
    told: Story
    generation: int

    @property
    def costs(self) -> list[Any]:
        """The restarts since the fault."""
        books = self.job.status.accounting
        return [cost for cost in books.restarts if cost.generation >= self.generation]

    @property
    def reasons(self) -> dict[str, int]:
        """How many there were, by reason."""
        return dict(Counter(cost.reason for cost in self.costs))

    @property
    def recomputed(self) -> int:
        """Steps that were made twice."""
        return sum(cost.steps_recomputed for cost in self.costs)

    def seconds(self, since: float) -> float | None:
        """How long it took, as Result.seconds."""
        told = [e for e in self.told.events if e.restart.generation >= self.generation]
        if self.cell.moment is Moment.FINISHING or (self.costs and not told):
            return self.job.status.completion_time.ToNanoseconds() / 1e9 - since
        # A group that goes on with fewer may have grown again later.
        told = [e for e in told if e.restart.reason != PLANNED] or told
        return told[-1].time.ToNanoseconds() / 1e9 - since if told else None

    def wrong(self) -> Iterator[str]:
        """What is not as promised about how it went."""
        status = self.job.status
        if status.phase != PHASE_SUCCEEDED:
            yield f"{Phase.Name(status.phase)}: {status.message}"
        if self.cell.restarts and not self.costs:
            yield "nobody noticed"
        if strange := set(self.reasons) - self.cell.reasons:
            yield f"put down to {strange}"
        if status.crashes and self.cell.fault is not Fault.TRAINER_OUT_OF_MEMORY:
            yield "counted as a crash"
        try:
            self.told.check()
        except AssertionError as error:
            yield f"records are missing or told twice: {error}"


def _unlike(site: Site, job: TrainingJob, told: Story, calm: Calm, cell: Cell) -> Iterator[str]:
    """How the result differs from that of the undisturbed training."""
    if job.status.phase != PHASE_SUCCEEDED:
        return
    folder, digests = final(site, job, STEPS)
    if cell.elastic:
        off = max(difference(folder, calm.folder).values())
        if off > NOISE:
            yield f"weights are off by {off}"
    else:
        if digests != calm.digests:
            off = max(difference(folder, calm.folder).values())
            yield f"weights are not the same bits, off by {off}"
        if told.test != calm.test:
            yield f"over the test set {told.test} instead of {calm.test}"


def difference(one: Path, other: Path) -> dict[str, float]:
    """The greatest difference between two checkpoints by variable."""
    import tensorflow as tf

    first, second = (tf.train.load_checkpoint(str(folder / "variables")) for folder in (one, other))
    names = first.get_variable_to_shape_map()
    found = {}
    for name in names:
        a, b = first.get_tensor(name), second.get_tensor(name)
        if not isinstance(a, bytes):
            found[name] = float(np.max(np.abs(np.asarray(a, "float64") - b), initial=0.0))
    return found


def submitted(site: Site, name: str, wanted: Wanted) -> TrainingJob:
    """Begin a small training with big checkpoints."""
    policy = CheckpointPolicy(every_steps=wanted.save_every)
    return site.client.submit(
        TASK,
        name=name,
        workers=wanted.workers,
        parameters={"steps": wanted.steps, "ballast": BALLAST_MB},
        spec=TrainingJobSpec(min_workers=wanted.min_workers, checkpoints=policy),
    )


def gone(site: Site, job: TrainingJob) -> None:
    """Return when nothing is left of a job that was deleted: no process, no pod, no file."""
    until(lambda: not (workers.of_job(job.uid) or site.left(job)), f"{job.name} to go")


def _says_so(job: TrainingJob) -> bool:
    failing = any(c.type == "StorageFailing" and c.status == "True" for c in job.status.conditions)
    return failing or "StorageFailed" in job.status.restarts_by_reason


def story(site: Site, job: TrainingJob) -> Story:
    """All that is told of a job that is over."""
    return Story(list(site.client.watch(job.name)))


def final(site: Site, job: TrainingJob, steps: int) -> tuple[Path, dict[str, str]]:
    """The folder of the checkpoint after the last step, and the digests of its files by name."""
    folder = site.folder(job) / "checkpoints"
    found = [Manifest.from_json(p.read_text()) for p in folder.glob("step-*/manifest.json")]
    newest = max((m for m in found if m.step == steps), key=lambda m: m.generation)
    return folder / newest.id, {entry.path: entry.sha256 for entry in newest.files}
