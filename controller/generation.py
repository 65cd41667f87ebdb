"""The newest generation of a job while it may be running: its progress and its end. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from controller import evaluator, failures, wording
from controller.group import HEARTBEAT_LIMIT, Look
from controller.model import (
    Failure,
    Outcome,
    Phase,
    PodPhase,
    Reason,
    Stage,
    StorageTrouble,
)
from controller.scene import Scene

# A report of a lost peer often comes before the culprit's own.
_BLAME_WAIT = timedelta(seconds=2)
# How often the status takes over the chief's progress; every change is a write to the store.
PROGRESS_EVERY = timedelta(seconds=3)


def watched(scene: Scene) -> Scene:
    """Note what went wrong, what is asked for and how far it is; settle the generation's end."""
    status = scene.job.status
    before = status.phase
    if not scene.bad and _should_stop(scene):
        scene = scene.with_status(stopping=True)
    blamed = _blamed(scene)
    if blamed is not None and not scene.chief.done and scene.job.deleting is None:
        scene = scene.with_status(last_failure=blamed)
    scene = _storage_watched(scene, blamed)
    scene = _phased(scene, blamed)
    scene = scene.with_status(message=activity(scene))
    scene = _progressed(scene, before=before)
    if all(m.ended for m in scene.members) and not _waits_for_blame(scene, blamed):
        scene = _settled(scene, blamed)
    return scene


def _blamed(scene: Scene) -> Failure | None:
    """Return the earliest failure of this generation; what an earlier pass found counts too."""
    status = scene.job.status
    found = [m.failure for m in scene.members if m.failure is not None]
    recorded = status.last_failure
    if recorded is not None and recorded.generation != status.generation:
        recorded = None
    if recorded is None and scene.hung and not any(m.ended_badly for m in scene.members):
        limit = scene.job.spec.progress_deadline_s
        message = f"no worker made a step for {limit} s (progressDeadlineSeconds)"
        found.append(Failure(Reason.HUNG, message, generation=status.generation, time=scene.now))
    return failures.culprit(recorded, found)


def _should_stop(scene: Scene) -> bool:
    """Say whether the generation must save and leave: the user wants it, the group changes, or
    a member was asked to leave by somebody else and takes the others with it."""
    spec = scene.job.spec
    asked = spec.suspend or spec.cancel or scene.job.deleting is not None or scene.overdue
    return asked or _group_changes(scene) or any(_drained(m) for m in scene.members)


def _group_changes(scene: Scene) -> bool:
    """Shrinking is done at once; for growing all new workers must be there first."""
    members, wanted = scene.job.status.members, scene.job.spec.workers
    shrinks = members[-1] >= wanted
    grows = len(members) < wanted and all(x.usable for x in scene.wanted)
    return shrinks or grows


def _drained(member: Look) -> bool:
    saved = member.exited is not None and member.exited.outcome is Outcome.SAVED
    return not member.done and (saved or member.leaving)


def _storage_watched(scene: Scene, blamed: Failure | None) -> Scene:
    """Note whether checkpoints can be saved. That it works is believed of a checkpoint only: a
    generation that has just begun has not tried."""
    status, agent = scene.job.status, scene.chief.agent
    ours = agent if agent is not None and agent.running == status.generation else None
    why = ours.saving_fails if ours else ""
    if blamed is not None and blamed.reason == Reason.STORAGE_FAILED:
        why = blamed.message
    trouble = status.storage_trouble
    if why:
        since = trouble.since if trouble else scene.now
        return scene.with_status(storage_trouble=StorageTrouble(why, since))
    if (ours and ours.checkpoint is not None) or scene.chief.done:
        return scene.with_status(storage_trouble=None)
    return scene


def _phased(scene: Scene, blamed: Failure | None) -> Scene:
    status, spec = scene.job.status, scene.job.spec
    phase = status.phase
    if scene.chief.done:
        pass  # The model is complete: what follows is success, whatever is asked for now.
    elif spec.suspend and not spec.cancel:
        phase = Phase.SUSPENDING
    elif phase is Phase.SUSPENDING:
        phase = Phase.RESTARTING  # Resumed too late to be kept from saving and leaving.
    elif scene.bad:
        # A job that is about to end does not claim to restart.
        final = blamed is not None and failures.verdict(status, spec, blamed) is not None
        ends = final or spec.cancel or scene.overdue
        ends = ends or scene.job.deleting is not None
        phase = phase if ends else Phase.RESTARTING
    elif phase is Phase.STARTING and any(_trains(m, status.generation) for m in scene.members):
        phase = Phase.RUNNING
    return scene.to(phase, status.message)


def _trains(member: Look, generation: int) -> bool:
    agent = member.agent
    if agent is None or agent.running != generation:
        return False
    return agent.step > 0 or agent.stage not in (Stage.STARTING, Stage.RESTORING)


def activity(scene: Scene) -> str:
    """Return the sentence about a generation that may be running."""
    job, status = scene.job, scene.job.status
    group = wording.workers(len(status.members))
    if job.deleting is not None:
        return "stopping all workers before the job is deleted"
    if scene.chief.done:
        return "the model is complete; waiting for the other workers to end"
    if scene.bad:
        failure = status.last_failure
        if failure is not None and failure.generation == status.generation:
            return f"stopping the generation after: {failure.message}"
        return "a worker lost its peers; looking for the cause"
    if status.stopping:
        return f"saving {_purpose(scene)}"
    if status.phase is Phase.RUNNING:
        parts = [f"training with {group}"]
        refused = [x for x in scene.wanted if x.refused]
        parts += [wording.absent(refused)] if refused else []
        trouble = status.storage_trouble
        parts += [f"checkpoints cannot be saved: {trouble.message}"] if trouble else []
        beside = evaluator.trouble(job, scene.seen)
        parts += [f"the evaluator does not work: {beside}"] if beside else []
        return "; ".join(parts)
    return f"starting generation {status.generation} with {group}"


def _purpose(scene: Scene) -> str:
    spec = scene.job.spec
    if spec.cancel:
        return "before the job is cancelled"
    if scene.overdue:
        return "because the job has reached its active deadline"
    if spec.suspend:
        return "before the job is suspended"
    drained = [m.index for m in scene.members if _drained(m)]
    if drained and not _group_changes(scene):
        return f"because worker {drained[0]} was asked to leave"
    return f"to go on with {wording.workers(spec.workers)}"


def _progressed(scene: Scene, *, before: Phase) -> Scene:
    """Take over what the chief reported, now and then, and at every turn of events."""
    status, agent, exited = scene.job.status, scene.chief.agent, scene.chief.exited
    if agent is None or (agent.running != status.generation and exited is None):
        return scene
    progress = agent.progress or status.progress
    checkpoint = agent.checkpoint or status.last_checkpoint
    if (progress, checkpoint) == (status.progress, status.last_checkpoint):
        return scene
    turn = status.phase is not before or exited is not None or scene.bad
    due = status.progress_at is None or scene.now >= status.progress_at + PROGRESS_EVERY
    if not (turn or due):
        return scene
    return scene.with_status(progress=progress, last_checkpoint=checkpoint, progress_at=scene.now)


def looked_into_until(scene: Scene) -> datetime:
    """Return until when it is asked who is to blame for the end of a generation.

    An agent that somebody else told to end is followed by its pod, which says why: of an evicted
    one the kubelet tells when all of it has ended. Until then it is silent, which has a limit.
    """
    follows = any(_has_left(member) for member in scene.members)
    return scene.phase_since + (HEARTBEAT_LIMIT if follows else _BLAME_WAIT)


def _has_left(member: Look) -> bool:
    """True for a member whose agent has ended its trainer and is gone, while its pod still runs,
    and nobody knows why."""
    stopped = member.exited is not None and member.exited.outcome is Outcome.STOPPED
    away = member.agent is None or not member.agent.connected
    pod = member.pod
    runs = pod is not None and pod.phase is PodPhase.RUNNING and not member.leaving
    return stopped and away and runs


def _waits_for_blame(scene: Scene, blamed: Failure | None) -> bool:
    waits = scene.bad and scene.job.status.phase is Phase.RESTARTING and blamed is None
    return waits and scene.now < looked_into_until(scene)


def _settled(scene: Scene, blamed: Failure | None) -> Scene:
    """Account for a generation that has ended on all members. Done once a generation."""
    spec, status = scene.job.spec, scene.job.status
    scene = scene.with_status(generation_ended=True, stopping=False)
    if scene.chief.done:
        steps = status.progress.step
        message = f"completed {steps} steps" if steps else "completed"
        scene = scene.to(Phase.SUCCEEDED, message)
        return scene.with_status(finished=scene.now, restart_after=None)
    if spec.cancel or scene.overdue or scene.job.deleting is not None:
        return scene  # What follows is the end, whatever this generation died of.
    failure = blamed or _unexplained(scene, stopping=status.stopping or spec.suspend)
    if failure is not None:
        accounted = failures.accounted(scene.job.status, spec, failure, scene.now)
        scene = replace(scene, job=replace(scene.job, status=accounted))
    if scene.job.status.phase.final:
        return scene
    return scene.to(Phase.SUSPENDING if spec.suspend else Phase.RESTARTING, status.message)


def _unexplained(scene: Scene, *, stopping: bool) -> Failure | None:
    """Return the failure of a generation that no member is to blame for, if it is one.

    Members that were told to save and could not are no failure: what they lost since the last
    checkpoint is computed again.
    """
    exits = {m.index: m.exited for m in scene.members if m.exited is not None}
    by_outcome = {e.outcome: i for i, e in reversed(exits.items())}
    leaving = [m.index for m in scene.members if m.leaving]
    if leaving:
        index, reason = leaving[0], Reason.POD_LOST
        message = f"the pod of worker {index} was asked to leave"
    elif stopping or Outcome.SAVED in by_outcome or not by_outcome:
        return None
    elif Outcome.PEER_LOST in by_outcome:
        index, reason = -1, Reason.PEER_LOST
        message = f"worker {by_outcome[Outcome.PEER_LOST]} lost its peers, yet none of them failed"
        if Outcome.DONE in by_outcome:
            # Of a script or command; the parts of a task end together.
            message = (
                f"worker {by_outcome[Outcome.DONE]} ended its program while worker "
                f"{by_outcome[Outcome.PEER_LOST]} was still training; all workers must make the "
                "same steps"
            )
    else:
        index, reason = by_outcome[Outcome.STOPPED], Reason.TRAINER_KILLED
        message = f"the trainer of worker {index} was stopped from outside"
    details = next((e.failure.details for e in exits.values() if e.failure), "")
    generation = scene.job.status.generation
    return Failure(reason, message, index, details=details, generation=generation, time=scene.now)
