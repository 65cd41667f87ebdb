"""Converts between the domain and the wire messages, both ways and without loss. Pure.

Nothing is judged here but what has no meaning at all (an unknown enum number, an impossible
time); what users may ask for is judged in controller.parse.
"""

from __future__ import annotations

from typing import Any

from controller.conditions import conditions
from controller.errors import InvalidJob
from controller.model import (
    Checkpoint,
    CheckpointPolicy,
    Command,
    Failure,
    InitFrom,
    Job,
    JobKey,
    Phase,
    Program,
    Progress,
    Rewind,
    Script,
    Source,
    Spec,
    Status,
    StorageTrouble,
    Task,
    Worker,
    WorkerState,
)
from controller.wire_ledger import ledger_from_wire, ledger_to_wire
from controller.wire_pod import pod_to_wire, pod_with_defaults
from controller.wire_values import EPOCH, by_number, member, moment, stamp
from protos.taas.v1 import job_pb2

# Where the defaults of job.proto's comments come from: the domain has them.
_DEFAULTS = Spec(Task(module=""))


PHASES = by_number(Phase, job_pb2.Phase.DESCRIPTOR, "PHASE_")
WORKER_STATES = by_number(WorkerState, job_pb2.WorkerState.DESCRIPTOR, "WORKER_STATE_")


# --- The parts of a status


def progress_to_wire(progress: Progress) -> job_pb2.Progress:
    """Return progress as a wire message."""
    return job_pb2.Progress(
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=progress.epoch,
        loss=progress.loss,
        metrics=dict(progress.metrics),
        examples_per_second=progress.examples_per_second,
        seconds_left=progress.seconds_left,
        starved_fraction=progress.starved_fraction,
    )


def progress_from_wire(progress: job_pb2.Progress) -> Progress:
    """Return progress as the domain has it."""
    return Progress(
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=progress.epoch,
        loss=progress.loss,
        metrics=tuple(sorted(progress.metrics.items())),
        examples_per_second=progress.examples_per_second,
        seconds_left=progress.seconds_left if progress.HasField("seconds_left") else None,
        starved_fraction=progress.starved_fraction,
    )


def checkpoint_to_wire(checkpoint: Checkpoint) -> job_pb2.Checkpoint:
    """Return a checkpoint as a wire message."""
    return job_pb2.Checkpoint(
        id=checkpoint.id,
        step=checkpoint.step,
        generation=checkpoint.generation,
        size_bytes=checkpoint.size_bytes,
        create_time=stamp(checkpoint.created),
        metrics=dict(checkpoint.metrics),
    )


def checkpoint_from_wire(checkpoint: job_pb2.Checkpoint) -> Checkpoint:
    """Return a checkpoint as the domain has it; without a time it is as old as can be."""
    return Checkpoint(
        id=checkpoint.id,
        step=checkpoint.step,
        generation=checkpoint.generation,
        size_bytes=checkpoint.size_bytes,
        created=moment(checkpoint, "create_time") or EPOCH,
        metrics=tuple(sorted(checkpoint.metrics.items())),
    )


def failure_to_wire(failure: Failure) -> job_pb2.Failure:
    """Return a failure as a wire message."""
    return job_pb2.Failure(
        reason=failure.reason,
        worker=failure.worker,
        exit_code=failure.exit_code,
        signal=failure.signal,
        message=failure.message,
        details=failure.details,
        generation=failure.generation,
        time=stamp(failure.time),
    )


def failure_from_wire(failure: job_pb2.Failure) -> Failure:
    """Return a failure as the domain has it."""
    return Failure(
        reason=failure.reason,
        message=failure.message,
        worker=failure.worker,
        exit_code=failure.exit_code,
        signal=failure.signal,
        details=failure.details,
        generation=failure.generation,
        time=moment(failure, "time"),
    )


# --- Spec


def spec_to_wire(spec: Spec) -> job_pb2.TrainingJobSpec:
    """Return a spec as a wire message, every default spelled out but one: min_workers is left
    open where it follows workers, so that whoever writes workers alone scales the job."""
    policy = spec.checkpoints
    return job_pb2.TrainingJobSpec(
        **_program_to_wire(spec.program),
        source=_source_to_wire(spec.source),
        workers=spec.workers,
        min_workers=spec.min_workers if spec.min_workers != spec.workers else 0,
        elastic_wait_seconds=spec.elastic_wait_s,
        parameters=dict(spec.parameters),
        env=dict(spec.env),
        checkpoints=job_pb2.CheckpointPolicy(
            every_steps=policy.every_steps,
            every_seconds=policy.every_seconds,
            keep_last=policy.keep_last,
            best_metric=policy.best_metric,
            best_mode=f"BEST_MODE_{policy.best_mode.upper()}",
            keep_every_steps=policy.keep_every_steps,
        ),
        max_restarts=spec.max_restarts,
        active_deadline_seconds=spec.active_deadline_s or 0,
        start_deadline_seconds=spec.start_deadline_s,
        progress_deadline_seconds=spec.progress_deadline_s or 0,
        ttl_seconds_after_finished=spec.ttl_after_finished_s,
        suspend=spec.suspend,
        cancel=spec.cancel,
        grace_seconds=spec.grace_s,
        pod=pod_to_wire(spec.pod),
        storage=job_pb2.StorageOptions(claim_name=spec.storage_claim),
        init_from=_init_to_wire(spec.init_from),
        rewind=_rewind_to_wire(spec.rewind),
        evaluator=spec.evaluator,
    )


def spec_with_defaults(spec: job_pb2.TrainingJobSpec) -> Spec:
    """Return a sound spec as the domain has it, unset fields as job.proto's comments say."""
    has_restarts = spec.HasField("max_restarts")
    has_ttl = spec.HasField("ttl_seconds_after_finished")
    program = _program_from_wire(spec)
    makes_steps = not isinstance(program, Command)
    return Spec(
        program=program,
        source=_source_from_wire(spec.source) if spec.HasField("source") else None,
        workers=spec.workers,
        min_workers=spec.min_workers or spec.workers,
        elastic_wait_s=spec.elastic_wait_seconds or _DEFAULTS.elastic_wait_s,
        parameters=tuple(sorted(spec.parameters.items())),
        env=tuple(sorted(spec.env.items())),
        checkpoints=_policy_with_defaults(spec.checkpoints),
        max_restarts=spec.max_restarts if has_restarts else _DEFAULTS.max_restarts,
        active_deadline_s=spec.active_deadline_seconds or None,
        start_deadline_s=spec.start_deadline_seconds or _DEFAULTS.start_deadline_s,
        progress_deadline_s=(spec.progress_deadline_seconds or _DEFAULTS.progress_deadline_s)
        if makes_steps
        else None,
        ttl_after_finished_s=spec.ttl_seconds_after_finished if has_ttl else None,
        grace_s=spec.grace_seconds or _DEFAULTS.grace_s,
        suspend=spec.suspend,
        cancel=spec.cancel,
        pod=pod_with_defaults(spec.pod),
        storage_claim=spec.storage.claim_name or _DEFAULTS.storage_claim,
        init_from=InitFrom(spec.init_from.job, spec.init_from.step)
        if spec.HasField("init_from")
        else None,
        rewind=Rewind(spec.rewind.step, spec.rewind.generation)
        if spec.HasField("rewind")
        else None,
        evaluator=spec.evaluator,
    )


def _init_to_wire(init: InitFrom | None) -> job_pb2.InitFrom | None:
    return job_pb2.InitFrom(job=init.job, step=init.step) if init else None


def _rewind_to_wire(rewind: Rewind | None) -> job_pb2.Rewind | None:
    return job_pb2.Rewind(step=rewind.step, generation=rewind.generation) if rewind else None


def _program_to_wire(program: Program) -> dict[str, Any]:
    """Return the one field of the spec that says what to run, by name."""
    match program:
        case Task(module):
            return {"task": job_pb2.TaskProgram(module=module)}
        case Script():
            script = job_pb2.ScriptProgram(
                path=program.path,
                arguments=program.arguments,
                distribute=program.distribute,
                own_checkpoints=program.own_checkpoints,
            )
            return {"script": script}
        case Command(words):
            return {"command": job_pb2.CommandProgram(words=words)}


def _program_from_wire(spec: job_pb2.TrainingJobSpec) -> Program:
    if spec.HasField("script"):
        script = spec.script
        return Script(
            path=script.path,
            arguments=tuple(script.arguments),
            distribute=script.distribute,
            own_checkpoints=script.own_checkpoints,
        )
    if spec.HasField("command"):
        return Command(tuple(spec.command.words))
    return Task(spec.task.module)


def _source_to_wire(source: Source | None) -> job_pb2.Source | None:
    if source is None:
        return None
    return job_pb2.Source(digest=source.digest, size_bytes=source.size_bytes)


def _source_from_wire(source: job_pb2.Source) -> Source:
    return Source(source.digest, source.size_bytes)


def _policy_with_defaults(policy: job_pb2.CheckpointPolicy) -> CheckpointPolicy:
    default = _DEFAULTS.checkpoints
    by_steps_only = policy.every_steps and not policy.every_seconds
    return CheckpointPolicy(
        every_steps=policy.every_steps,
        every_seconds=0 if by_steps_only else policy.every_seconds or default.every_seconds,
        keep_last=policy.keep_last or default.keep_last,
        best_metric=policy.best_metric,
        best_mode="min" if policy.best_mode == job_pb2.BEST_MODE_MIN else "max",
        keep_every_steps=policy.keep_every_steps,
    )


# --- Status


def status_to_wire(status: Status) -> job_pb2.TrainingJobStatus:
    """Return a status as a wire message, with the conditions and counts that follow from it."""
    checkpoint, failure = status.last_checkpoint, status.last_failure
    return job_pb2.TrainingJobStatus(
        phase=f"PHASE_{status.phase.value}",
        conditions=conditions(status),
        generation=status.generation,
        members=status.members,
        addresses=status.addresses,
        workers=[_worker_to_wire(w) for w in status.workers],
        ready_workers=status.ready_workers,
        progress=progress_to_wire(status.progress),
        last_checkpoint=checkpoint_to_wire(checkpoint) if checkpoint else None,
        restarts=status.restarts,
        restarts_by_reason=dict(status.restarts_by_reason),
        last_failure=failure_to_wire(failure) if failure else None,
        start_time=stamp(status.started),
        completion_time=stamp(status.finished),
        restart_after=stamp(status.restart_after),
        last_event=status.last_event,
        phase_since=stamp(status.phase_since),
        crashes=status.crashes,
        futile_restarts=status.futile_restarts,
        failed_at_step=status.failed_at_step,
        message=status.message,
        stopping=status.stopping,
        generation_ended=status.generation_ended,
        progress_time=stamp(status.progress_at),
        storage_trouble=_trouble_to_wire(status.storage_trouble),
        accounting=ledger_to_wire(status.ledger),
        goodput=goodput(status),
    )


def status_from_wire(status: job_pb2.TrainingJobStatus) -> Status:
    """Return a status as the domain has it. Every status that was ever written has a phase;
    one without is that of a new job. Conditions and counts that follow from the rest are ignored.
    """
    if status.phase == job_pb2.PHASE_UNSPECIFIED:
        return Status()
    has_checkpoint = status.HasField("last_checkpoint")
    has_failure = status.HasField("last_failure")
    return Status(
        phase=member(PHASES, status.phase, "phase"),
        phase_since=moment(status, "phase_since"),
        message=status.message,
        generation=status.generation,
        members=tuple(status.members),
        addresses=tuple(status.addresses),
        generation_ended=status.generation_ended,
        stopping=status.stopping,
        workers=tuple(_worker_from_wire(w) for w in status.workers),
        progress=progress_from_wire(status.progress) if status.HasField("progress") else Progress(),
        progress_at=moment(status, "progress_time"),
        last_checkpoint=checkpoint_from_wire(status.last_checkpoint) if has_checkpoint else None,
        restarts=status.restarts,
        restarts_by_reason=tuple(sorted(status.restarts_by_reason.items())),
        crashes=status.crashes,
        futile_restarts=status.futile_restarts,
        failed_at_step=status.failed_at_step,
        restart_after=moment(status, "restart_after"),
        last_failure=failure_from_wire(status.last_failure) if has_failure else None,
        started=moment(status, "start_time"),
        finished=moment(status, "completion_time"),
        last_event=status.last_event,
        storage_trouble=_trouble_from_wire(status),
        ledger=ledger_from_wire(status.accounting),
    )


def goodput(status: Status) -> float:
    """Return the useful share of the time as of the newest progress: what comes after it may be
    lost again."""
    at = status.progress_at or status.ledger.since
    return status.ledger.goodput(at) if at else 0.0


def _trouble_to_wire(trouble: StorageTrouble | None) -> job_pb2.StorageTrouble | None:
    if trouble is None:
        return None
    return job_pb2.StorageTrouble(message=trouble.message, since=stamp(trouble.since))


def _trouble_from_wire(status: job_pb2.TrainingJobStatus) -> StorageTrouble | None:
    if not status.HasField("storage_trouble"):
        return None
    trouble = status.storage_trouble
    return StorageTrouble(trouble.message, moment(trouble, "since") or EPOCH)


def _worker_to_wire(worker: Worker) -> job_pb2.WorkerStatus:
    return job_pb2.WorkerStatus(
        index=worker.index,
        state=f"WORKER_STATE_{worker.state.value}",
        reason=worker.reason,
        pod=worker.pod,
    )


def _worker_from_wire(worker: job_pb2.WorkerStatus) -> Worker:
    state = member(WORKER_STATES, worker.state, "workers.state")
    return Worker(worker.index, state, reason=worker.reason, pod=worker.pod)


# --- Jobs


def resource_name(key: JobKey) -> str:
    """Return the name of a job on the wire."""
    return f"namespaces/{key.namespace}/trainingJobs/{key.name}"


def job_to_wire(job: Job) -> job_pb2.TrainingJob:
    """Return a job as clients see it."""
    return job_pb2.TrainingJob(
        name=resource_name(job.key),
        uid=job.uid,
        create_time=stamp(job.created),
        delete_time=stamp(job.deleting),
        etag=job.version,
        labels=dict(job.labels),
        spec=spec_to_wire(job.spec),
        status=status_to_wire(job.status),
    )


def job_from_wire(job: job_pb2.TrainingJob, *, request_id: str = "", fingerprint: str = "") -> Job:
    """Return a stored job as the domain has it; the inverse of job_to_wire. The two things that
    clients do not see come besides. Raises InvalidJob."""
    parts, created = job.name.split("/"), moment(job, "create_time")
    if len(parts) != 4 or created is None:
        raise InvalidJob("name", f"{job.name!r} is no stored job: its name or time is missing")
    return Job(
        key=JobKey(parts[1], parts[3]),
        uid=job.uid,
        created=created,
        spec=spec_with_defaults(job.spec),
        labels=tuple(sorted(job.labels.items())),
        request_id=request_id,
        fingerprint=fingerprint,
        deleting=moment(job, "delete_time"),
        version=job.etag,
        status=status_from_wire(job.status),
    )
