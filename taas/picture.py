"""What a watcher knows about a job from the events it has seen. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from protos.taas.v1.history_pb2 import Evaluation, Event, Exported, Record, StateChange
from protos.taas.v1.job_pb2 import (
    PHASE_PENDING,
    PHASE_RESTARTING,
    PHASE_RUNNING,
    Checkpoint,
    Failure,
    Phase,
    Progress,
    TrainingJob,
    WorkerState,
)


@dataclass(frozen=True, slots=True)
class Worker:
    """Where one worker stands, and why."""

    state: WorkerState
    why: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A job as its events tell it. Messages in it are never changed."""

    phase: Phase = PHASE_PENDING
    message: str = ""
    generation: int = 0
    restarts: int = 0
    workers: Mapping[int, Worker] = field(default_factory=lambda: MappingProxyType({}))
    progress: Progress | None = None
    checkpoint: Checkpoint | None = None
    test: Evaluation | None = None
    exported: Exported | None = None
    failure: Failure | None = None

    def after(self, event: Event) -> Picture:
        """Return the picture once this event happened, too."""
        match event.WhichOneof("kind"):
            case "state":
                return self._after_state(event.state)
            case "worker":
                change = event.worker
                workers = {**self.workers, change.index: Worker(change.to, change.message)}
                return replace(self, workers=MappingProxyType(dict(sorted(workers.items()))))
            case "record":
                return self._after_record(event.record)
        return self

    def _after_state(self, change: StateChange) -> Picture:
        # Who reads "running" needs no words, unless something about it is not as it should be.
        former = getattr(change, "from")
        return replace(
            self,
            phase=change.to,
            message="" if former != change.to == PHASE_RUNNING else change.message,
            generation=max(self.generation, change.generation),
            restarts=self.restarts + (former != change.to == PHASE_RESTARTING),
            failure=change.failure if change.HasField("failure") else self.failure,
        )

    def _after_record(self, record: Record) -> Picture:
        match record.WhichOneof("kind"):
            case "progress":
                return replace(self, progress=record.progress)
            case "checkpoint":
                return replace(self, checkpoint=record.checkpoint)
            case "evaluation" if record.evaluation.dataset == "test":
                return replace(self, test=record.evaluation)
            case "exported":
                return replace(self, exported=record.exported)
        return self


def of_job(job: TrainingJob) -> Picture:
    """Return the picture for a job whose past is not going to be watched."""
    status = job.status
    return Picture(
        phase=status.phase,
        message=status.message,
        generation=status.generation,
        restarts=status.restarts,
        workers=MappingProxyType({w.index: Worker(w.state, w.reason) for w in status.workers}),
        progress=status.progress if status.HasField("progress") else None,
        checkpoint=status.last_checkpoint if status.HasField("last_checkpoint") else None,
        failure=status.last_failure if status.HasField("last_failure") else None,
    )
