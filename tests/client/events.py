"""Events and scripts of events for the double to play."""

from __future__ import annotations

from protos.taas.v1.history_pb2 import (
    Evaluation,
    Event,
    Exported,
    Record,
    StateChange,
    WorkerChange,
)
from protos.taas.v1.job_pb2 import Checkpoint, Failure, Phase, Progress, WorkerState

TRACEBACK = 'Traceback (most recent call last):\n  File "task.py", line 3, in task\nValueError: no'


def state(before: Phase, after: Phase, message: str = "", failure: Failure | None = None) -> Event:
    """Return the event of a phase change."""
    change = StateChange(to=after, generation=1, message=message, failure=failure)
    setattr(change, "from", before)
    return Event(state=change)


def worker(index: int, before: WorkerState, after: WorkerState, message: str = "") -> Event:
    """Return the event of a worker's change."""
    change = WorkerChange(index=index, to=after, generation=1, message=message)
    setattr(change, "from", before)
    return Event(worker=change)


def progress(step: int, total: int = 1000) -> Event:
    """Return the event of a progress record."""
    return Event(
        record=Record(
            progress=Progress(
                step=step,
                total_steps=total,
                epoch=step / 400,
                loss=2.3 / (1 + step / 50),
                metrics={"accuracy": step / (step + 20)},
                examples_per_second=12345.6,
                seconds_left=(total - step) / 40,
            )
        )
    )


def scripted(script: str, workers: int) -> list[Event]:
    """Return the events of a script: "" (none), "good", "restart" or "bad"."""
    if not script:
        return []
    p, w = Phase, WorkerState
    events = [
        worker(i, w.WORKER_STATE_PENDING, w.WORKER_STATE_READY, "agent is here")
        for i in range(workers)
    ]
    events.append(state(p.PHASE_PENDING, p.PHASE_STARTING, "all workers are here"))
    events += [worker(i, w.WORKER_STATE_READY, w.WORKER_STATE_RUNNING) for i in range(workers)]
    if script == "bad":
        failure = Failure(
            reason="InvalidProgram", worker=0, exit_code=78, message="no", details=TRACEBACK
        )
        return [
            *events,
            state(p.PHASE_STARTING, p.PHASE_FAILED, "the program cannot work", failure),
        ]
    events.append(state(p.PHASE_STARTING, p.PHASE_RUNNING, "training"))
    for step in range(50, 1001, 50):
        events.append(progress(step))
        if step % 250 == 0:
            saved = Checkpoint(id=f"step-{step:010d}.g000001", step=step, size_bytes=5 << 20)
            events.append(Event(record=Record(checkpoint=saved)))
            result = Evaluation(
                dataset="validation", step=step, examples=5000, metrics={"accuracy": 0.98}
            )
            events.append(Event(record=Record(evaluation=result)))
        if step == 500 and script == "restart":
            failure = Failure(reason="TrainerKilled", worker=1, signal=9, message="SIGKILL")
            events += [
                worker(1, w.WORKER_STATE_RUNNING, w.WORKER_STATE_LOST, "killed by signal 9"),
                state(p.PHASE_RUNNING, p.PHASE_RESTARTING, "worker 1 was killed", failure),
                state(p.PHASE_RESTARTING, p.PHASE_RUNNING, "training"),
                worker(1, w.WORKER_STATE_LOST, w.WORKER_STATE_RUNNING),
            ]
    test = Evaluation(
        dataset="test", step=1000, examples=10_000, metrics={"accuracy": 0.9912, "loss": 0.0271}
    )
    model = Exported(step=1000, paths=["model", "model.keras"], size_bytes=2 << 20)
    events += [Event(record=Record(evaluation=test)), Event(record=Record(exported=model))]
    return [*events, state(p.PHASE_RUNNING, p.PHASE_SUCCEEDED, "trained")]
