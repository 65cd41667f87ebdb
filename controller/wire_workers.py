"""The messages of the agents' stream, from and to the domain. Pure.

What an agent says about another worker is not believed: its index and generation are set here.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from controller.model import (
    Checkpoint,
    ExitedSeen,
    MemberSeen,
    Metrics,
    Order,
    Outcome,
    Progress,
    Stage,
    StartOrder,
    StopOrder,
)
from controller.wire import checkpoint_from_wire, failure_from_wire, progress_from_wire
from controller.wire_values import by_number, member
from protos.taas.v1 import job_pb2, worker_service_pb2

_OUTCOMES = by_number(Outcome, worker_service_pb2.Outcome.DESCRIPTOR, "OUTCOME_")
_STAGES = by_number(Stage, worker_service_pb2.TrainerStage.DESCRIPTOR, "TRAINER_STAGE_")

# A failure is stored with the job and sent to every watcher. A traceback of Keras takes some
# 10 KB, and it is its end that says what happened.
_MOST_MESSAGE_CHARS = 2_000
_MOST_DETAILS_CHARS = 16_000
# Progress and checkpoint are stored with the job every few seconds, so their size is time that
# all jobs share. Keras reports a handful of metrics; a hundred classes each with one is a lot.
_MOST_METRICS = 256
_MOST_NAME_CHARS = 128
# host:port, of which a name in DNS is 253.
_MOST_ADDRESS_CHARS = 260


def member_from_hello(hello: worker_service_pb2.Hello, now: datetime) -> MemberSeen:
    """Return a worker as its agent's first message shows it. Raises InvalidJob."""
    has_exited = hello.HasField("exited")
    seen = MemberSeen(
        index=hello.index,
        pod_uid=hello.pod_uid,
        address=(hello.heartbeat.address or hello.address)[:_MOST_ADDRESS_CHARS],
        connected=True,
        heard=now,
        running=hello.running,
        step_since=now,
        exited=exited_from_wire(hello.exited, hello.index, now) if has_exited else None,
    )
    # Also of a trainer that has ended while no controller was there to hear how far it came.
    ended = has_exited and not hello.running
    if ended or (hello.running and hello.heartbeat.generation == hello.running):
        return member_with_heartbeat(seen, hello.heartbeat, now)
    return seen


def member_with_heartbeat(
    seen: MemberSeen, heartbeat: worker_service_pb2.Heartbeat, now: datetime
) -> MemberSeen:
    """Return a worker after a heartbeat. A stage of a newer agent counts as starting."""
    stage = _STAGES.get(heartbeat.stage, Stage.STARTING)
    moved = (heartbeat.generation, stage, heartbeat.step) != (seen.running, seen.stage, seen.step)
    # A generation may begin behind the step that the one before it had reached, so the old
    # progress goes when a new one starts; it stays when the trainer has ended.
    same = heartbeat.generation in (seen.running, 0)
    progress = seen.progress if same else None
    checkpoint = seen.checkpoint if same else None
    if heartbeat.HasField("progress"):
        progress = progress_of_worker(heartbeat.progress)
    if heartbeat.HasField("checkpoint"):
        checkpoint = checkpoint_of_worker(heartbeat.checkpoint)
    return replace(
        seen,
        address=heartbeat.address[:_MOST_ADDRESS_CHARS] or seen.address,
        connected=True,
        heard=now,
        running=heartbeat.generation,
        stage=stage,
        step=heartbeat.step,
        base_step=heartbeat.base_step,
        step_since=now if moved or seen.step_since is None else seen.step_since,
        progress=progress,
        checkpoint=checkpoint,
        saving_fails=heartbeat.saving_fails[:_MOST_MESSAGE_CHARS],
    )


def progress_of_worker(progress: job_pb2.Progress) -> Progress:
    """Return progress as an agent tells it, with no more metrics than there is room for."""
    said = progress_from_wire(progress)
    return replace(said, metrics=_bounded(said.metrics))


def checkpoint_of_worker(checkpoint: job_pb2.Checkpoint) -> Checkpoint:
    """Return a checkpoint as an agent tells of it, with no more metrics than there is room for."""
    said = checkpoint_from_wire(checkpoint)
    return replace(said, id=said.id[:_MOST_NAME_CHARS], metrics=_bounded(said.metrics))


def _bounded(metrics: Metrics) -> Metrics:
    return tuple(m for m in metrics if len(m[0]) <= _MOST_NAME_CHARS)[:_MOST_METRICS]


def exited_from_wire(exited: worker_service_pb2.Exited, index: int, now: datetime) -> ExitedSeen:
    """Return how the trainer of worker `index` ended. Raises InvalidJob."""
    failure = None
    if exited.HasField("failure"):
        said = failure_from_wire(exited.failure)
        failure = replace(
            said,
            reason=said.reason[:_MOST_NAME_CHARS],
            worker=index,
            generation=exited.generation,
            message=said.message[:_MOST_MESSAGE_CHARS],
            details=said.details[-_MOST_DETAILS_CHARS:],
            time=said.time or now,
        )
    outcome = member(_OUTCOMES, exited.outcome, "exited.outcome")
    return ExitedSeen(exited.generation, outcome, step=exited.step, failure=failure)


def order_to_wire(order: Order, assignment: str) -> worker_service_pb2.ConnectResponse:
    """Return an order as an agent gets it; `assignment` is the JSON that a start carries."""
    if isinstance(order, StartOrder):
        start = worker_service_pb2.Start(
            generation=order.generation,
            cluster=order.cluster,
            position=order.position,
            assignment=assignment,
        )
        return worker_service_pb2.ConnectResponse(start=start)
    if isinstance(order, StopOrder):
        stop = worker_service_pb2.Stop(
            generation=order.generation, save=order.save, grace_seconds=order.grace_s
        )
        return worker_service_pb2.ConnectResponse(stop=stop)
    return worker_service_pb2.ConnectResponse(release=worker_service_pb2.Release())
