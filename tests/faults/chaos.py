"""Faults at random on one training, until it is through all the same.

Which faults strike whom, and after which turn of the training, follows from a seed; when exactly
they do depends on the machine.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import taas
from protos.taas.v1.job_pb2 import PHASE_SUCCEEDED, TrainingJob
from tests.faults import workers
from tests.faults.cells import Fault
from tests.faults.moments import Subject
from tests.faults.site import Site, Target
from tests.faults.trial import Wanted, final, gone, story, submitted
from tests.faults.workers import until
from trainer.storage import MANIFEST

WORKERS = 3
# Those that leave the machine as it was. What they do to a group is all there is; a lost node
# takes longer than a training that is to be short.
FAULTS = (
    Fault.TRAINER_KILLED,
    Fault.TRAINER_FROZEN,
    Fault.AGENT_KILLED,
    Fault.AGENT_FROZEN,
    Fault.POD_DELETED,
    Fault.POD_EVICTED,
    Fault.CONTROLLER_KILLED,
)


@dataclass(slots=True)
class Outcome:
    """What became of it. struck: faults and victims in order. wrong: what is not as promised."""

    steps: int
    struck: list[tuple[str, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    restarts: dict[str, int] = field(default_factory=dict)
    goodput: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A training of so many steps, and faults by a seed; `more` says after how many not to stop."""

    seed: int
    steps: int
    more: Callable[[int], bool]


def undisturbed(site: Site, steps: int) -> dict[str, str]:
    """The digests of what a training of so many steps ends with by itself."""
    job = submitted(site, "calm", Wanted(steps, workers=WORKERS))
    job = site.client.wait(job.name)
    assert (job.status.phase, job.status.restarts) == (PHASE_SUCCEEDED, 0), job.status
    _, digests = final(site, job, steps)
    site.client.delete(job.name, allow_missing=True)
    return digests


def chaos(site: Site, plan: Plan, digests: dict[str, str]) -> Outcome:
    """Train under faults; digests are those of the undisturbed training."""
    chance, outcome, began = random.Random(plan.seed), Outcome(plan.steps), time.monotonic()
    job = submitted(site, f"chaos-{plan.seed}", Wanted(plan.steps, workers=WORKERS))
    subject = Subject(job.uid, site.folder(job), plan.steps, WORKERS)
    while plan.more(len(outcome.struck)):
        fault, victim = chance.choice(FAULTS), chance.randrange(WORKERS)
        turn = chance.choice((_at_once, _after_a_step, _after_a_checkpoint))
        site.ready(fault)
        if (target := _hit(site, job, victim, turn(subject))) is None:
            break
        site.strike(fault, target)
        outcome.struck.append((fault.value, victim))
        site.mended()
    job = site.client.wait(job.name)
    outcome.seconds = time.monotonic() - began
    outcome.restarts = dict(job.status.restarts_by_reason)
    outcome.goodput = job.status.goodput
    outcome.wrong += _wrong(site, job, subject, digests)
    site.client.delete(job.name, allow_missing=True)
    gone(site, job)
    return outcome


def _hit(site: Site, job: TrainingJob, victim: int, come: Callable[[], bool]) -> Target | None:
    """The victim once it trains and the turn has come; None once the job is over."""
    found: list[Target] = []

    def ready() -> bool:
        if _over(site, job):
            return True
        trainer = workers.trainers(job.uid).get(victim)
        agent = trainer and workers.agent_of(job.uid, trainer)
        # What stands has been struck already.
        if trainer and agent and not (workers.stands(trainer) or workers.stands(agent)) and come():
            found.append(Target(job.name, job.uid, {victim: trainer}, victim, agent))
        return bool(found)

    until(ready, f"worker {victim} to train", every_s=0.05)
    return found[0] if found else None


def _over(site: Site, job: TrainingJob) -> bool:
    return taas.is_final(site.client.get(job.name).status.phase)


def _at_once(subject: Subject) -> Callable[[], bool]:
    return lambda: True


def _after_a_step(subject: Subject) -> Callable[[], bool]:
    def come() -> bool:
        return subject.trained

    return come


def _after_a_checkpoint(subject: Subject) -> Callable[[], bool]:
    before = max(subject.saved(), default=0)
    return lambda: max(subject.saved(), default=0) > before


def _wrong(
    site: Site, job: TrainingJob, subject: Subject, digests: dict[str, str]
) -> Iterator[str]:
    status = job.status
    if status.phase != PHASE_SUCCEEDED:
        yield f"the job has not succeeded: {status.message}"
        return
    if final(site, job, subject.steps)[1] != digests:
        yield "the final weights are not those of the undisturbed training"
    if status.crashes:
        yield f"{status.crashes} losses were counted as crashes"
    try:
        story(site, job).check()
    except AssertionError as error:
        yield f"records are missing or told twice: {error}"
    for path in _unfinished(subject.folder):
        yield f"left in the storage: {path}"


def _unfinished(folder: Path) -> Iterator[Path]:
    """What interrupted saves have left."""
    checkpoints = folder / "checkpoints"
    yield from folder.rglob("*.tmp")
    yield from checkpoints.glob(".removed-*")
    yield from (c for c in checkpoints.glob("step-*") if not (c / MANIFEST).exists())
