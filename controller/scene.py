"""A job, its world and the moment, as the planning functions pass them on. Frozen. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from controller.group import Look, look
from controller.model import Job, MemberSeen, Phase, Script, Seen, Stage


@dataclass(frozen=True, slots=True)
class Scene:
    """The job with the status decided so far, and its workers as seen under that status."""

    job: Job
    seen: Seen
    now: datetime
    looks: dict[int, Look]

    @property
    def members(self) -> tuple[Look, ...]:
        """The members of the newest generation, which may be running; the chief is first."""
        return tuple(self.looks[i] for i in self.job.status.members)

    @property
    def wanted(self) -> tuple[Look, ...]:
        """The workers that the spec asks for."""
        return tuple(self.looks[i] for i in range(self.job.spec.workers))

    @property
    def chief(self) -> Look:
        """The member that writes the model: when it is done, so is the job."""
        return self.members[0]

    @property
    def phase_since(self) -> datetime:
        """When the present phase began."""
        return self.job.status.phase_since or self.now

    @property
    def overdue(self) -> bool:
        """The job has taken longer than it may."""
        deadline = active_deadline(self.job)
        return deadline is not None and self.now >= deadline

    @property
    def hung_at(self) -> datetime | None:
        """When the newest generation counts as hung if nothing moves until then; None while no
        steps are expected of it."""
        spec = self.job.spec
        # Also of one whose trainer has just ended: that is a move, and how it ended comes next.
        agents = [m.agent for m in self.members if m.agent]
        if spec.progress_deadline_s is None:
            return None
        if isinstance(spec.program, Script) and not any(map(_makes_steps, agents)):
            return None
        moved = [a.step_since for a in agents if a.step_since]
        return max(self.phase_since, self.seen.since, *moved) + timedelta(
            seconds=spec.progress_deadline_s
        )

    @property
    def hung(self) -> bool:
        """Somebody still runs the newest generation, and nothing moves."""
        hung_at = self.hung_at
        due = hung_at is not None and self.now >= hung_at
        return due and not all(m.ended for m in self.members)

    @property
    def bad(self) -> bool:
        """The newest generation cannot go on."""
        failure = self.job.status.last_failure
        known = failure is not None and failure.generation == self.job.status.generation
        return known or any(m.ended_badly for m in self.members) or self.hung

    def with_status(self, **changes: Any) -> Scene:
        """Return the scene with other values in its job's status."""
        before = self.job.status
        # In most passes nothing changes, and to compare is much cheaper than to make anew.
        if all(getattr(before, name) == value for name, value in changes.items()):
            return self
        status = replace(before, **changes)
        return replace(self, job=replace(self.job, status=status))

    def to(self, phase: Phase, message: str) -> Scene:
        """Return the scene in a phase; phase_since stays if the job is in it already."""
        since = self.phase_since if self.job.status.phase is phase else self.now
        return self.with_status(phase=phase, phase_since=since, message=message)


def scene_of(job: Job, seen: Seen, now: datetime) -> Scene:
    """Look at the workers and note in the status where they stand."""
    looks = look(job, seen, now)
    scene = Scene(job, seen, now, looks)
    return scene.with_status(
        workers=tuple(x.worker for x in looks.values()),
        phase_since=job.status.phase_since or now,
    )


_MAKING_STEPS = (Stage.RECOMPUTING, Stage.TRAINING, Stage.EVALUATING)


def _makes_steps(agent: MemberSeen) -> bool:
    """Say whether the program of a worker is in the middle of Keras' fit."""
    return agent.step > 0 and agent.stage in _MAKING_STEPS


def active_deadline(job: Job) -> datetime | None:
    """Return when the job fails for having taken too long. Time in suspension counts."""
    limit, started = job.spec.active_deadline_s, job.status.started
    return started + timedelta(seconds=limit) if limit and started else None
