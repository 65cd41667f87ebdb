"""From what a generation begins, if not from its job's newest checkpoint.

Another job of the same namespace and claim may lend the weights of its model to the start of this
one; and a job may be sent back to an earlier step of its own. The assignment says so to every
generation; what is done already is seen in the storage.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainer.contract import Assignment
from trainer.preparation import paths_of
from trainer.snapshot import CheckpointError, damage
from trainer.storage import JobPaths, Manifest, checkpoint_id, committed, read_fences

_SHOWN = 10


class OriginError(CheckpointError):
    """What was asked for to begin from is not there; trying again is useless."""


def step_to_return_to(assignment: Assignment) -> int | None:
    """Return the step of its own that the job is sent back to; None if it is not, or was already:
    the first generation that has begun there has left its fence."""
    after = assignment.rewind_after
    if not assignment.rewind_step:
        return None
    begun = any(fence.generation > after for fence in read_fences(paths_of(assignment)))
    return None if begun else assignment.rewind_step


def lent(assignment: Assignment) -> Manifest | None:
    """Return the checkpoint of another job to take the weights from: the newest sound one, or the
    one of the step that was asked for. None if no job is named. Raises OriginError."""
    job, step = assignment.init_job, assignment.init_step
    if not job:
        return None
    skipped = []
    found = [(paths, m) for paths in _paths_of(assignment) for m in committed(paths)]
    for paths, manifest in sorted(found, key=lambda pair: pair[1].time, reverse=True):
        if step and manifest.step != step:
            continue
        reason = damage(paths.checkpoints / manifest.id, manifest)
        if reason is None:
            return manifest
        skipped.append(f"{manifest.id}: {reason}")
    if skipped:
        raise OriginError(f"initFrom: job {job} has no sound checkpoint: {'; '.join(skipped)}")
    raise OriginError(
        f"initFrom: job {job} has no checkpoint{f' of step {step}' if step else ''} on this claim; "
        f"{steps_there_are(sorted({m.step for _, m in found}))}"
    )


def folder_of(assignment: Assignment, step: int, generation: int) -> Path:
    """Return where the checkpoint that another job lends lies. Raises OriginError."""
    name = checkpoint_id(step, generation)
    for paths in _paths_of(assignment):
        if (paths.checkpoints / name).is_dir():
            return paths.checkpoints / name
    raise OriginError(f"initFrom: {assignment.init_job}/{name} was removed while it was chosen")


def steps_there_are(steps: list[int]) -> str:
    """Say of which steps there are checkpoints."""
    if not steps:
        return "it has none"
    more = f" and {len(steps) - _SHOWN} older ones" if len(steps) > _SHOWN else ""
    return f"there are {', '.join(map(str, steps[-_SHOWN:]))}{more}"


def _paths_of(assignment: Assignment) -> list[JobPaths]:
    """Return where jobs of the lender's name keep their files: one, or a former one besides."""
    paths = replace(paths_of(assignment), job=assignment.init_job)
    return [replace(paths, uid=path.name) for path in sorted(paths.folder.parent.glob("*"))]
