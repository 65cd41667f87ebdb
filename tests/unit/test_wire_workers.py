"""What agents say is taken for their own worker, and orders reach them whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller import wire, wire_workers
from controller.errors import InvalidJob
from controller.model import (
    ExitedSeen,
    Failure,
    MemberSeen,
    Outcome,
    Progress,
    ReleaseOrder,
    Stage,
    StartOrder,
    StopOrder,
)
from protos.taas.v1 import job_pb2, worker_service_pb2

NOW = datetime(2030, 4, 5, 6, 7, 8, 901234, tzinfo=UTC)


def hello(**changes: Any) -> worker_service_pb2.Hello:
    given: dict[str, Any] = {
        "namespace": "ns",
        "job": "job",
        "job_uid": "u",
        "index": 3,
        "pod_uid": "p",
        "address": "10.0.0.3:2222",
    }
    return worker_service_pb2.Hello(**given | changes)


SEEN = MemberSeen(3, "p", "10.0.0.3:2222", True, NOW, step_since=NOW)
LATER = NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("message", "seen"),
    [
        pytest.param(hello(), SEEN, id="idle"),
        pytest.param(hello(running=2), replace(SEEN, running=2), id="running, no heartbeat yet"),
        pytest.param(
            hello(
                running=2,
                heartbeat={
                    "generation": 2,
                    "step": 40,
                    "stage": worker_service_pb2.TRAINER_STAGE_TRAINING,
                    "progress": {"step": 30},
                },
            ),
            replace(
                SEEN,
                running=2,
                step=40,
                stage=Stage.TRAINING,
                progress=Progress(30),
            ),
            id="running",
        ),
        pytest.param(
            hello(running=2, heartbeat={"generation": 1, "step": 40}),
            replace(SEEN, running=2),
            id="heartbeat of an older generation",
        ),
        pytest.param(
            hello(heartbeat={"generation": 0, "step": 40}), SEEN, id="heartbeat of nothing running"
        ),
        pytest.param(
            hello(heartbeat={"address": "10.0.0.3:3333"}),
            replace(SEEN, address="10.0.0.3:3333"),
            id="moved to another port",
        ),
        pytest.param(
            hello(exited={"generation": 1, "outcome": "OUTCOME_SAVED", "step": 12}),
            replace(SEEN, exited=ExitedSeen(1, Outcome.SAVED, 12)),
            id="ended",
        ),
    ],
)
def test_hello(message: worker_service_pb2.Hello, seen: MemberSeen) -> None:
    assert wire_workers.member_from_hello(message, NOW) == seen


RUNNING = replace(
    SEEN, running=2, stage=Stage.TRAINING, step=10, progress=Progress(step=8), connected=False
)
HEARD = replace(RUNNING, heard=LATER, connected=True)
TRAINING = worker_service_pb2.TRAINER_STAGE_TRAINING


@pytest.mark.parametrize(
    ("heartbeat", "seen"),
    [
        pytest.param({"generation": 2, "step": 10, "stage": TRAINING}, HEARD, id="standing still"),
        pytest.param(
            {"generation": 2, "step": 11, "stage": TRAINING},
            replace(HEARD, step=11, step_since=LATER),
            id="a step",
        ),
        pytest.param(
            {"generation": 2, "step": 10, "stage": "TRAINER_STAGE_EVALUATING"},
            replace(HEARD, stage=Stage.EVALUATING, step_since=LATER),
            id="another stage",
        ),
        pytest.param(
            {"generation": 3, "step": 10, "stage": TRAINING},
            replace(HEARD, running=3, step_since=LATER, progress=None),
            id="the next generation forgets the old progress",
        ),
        pytest.param(
            {},
            replace(HEARD, running=0, step=0, stage=Stage.STARTING, step_since=LATER),
            id="ended, keeps the last progress",
        ),
        pytest.param(
            {"generation": 2, "step": 10, "stage": TRAINING, "progress": {"step": 10}},
            replace(HEARD, progress=Progress(10)),
            id="progress",
        ),
        pytest.param(
            {"generation": 2, "step": 10, "stage": TRAINING, "address": "h:1"},
            replace(HEARD, address="h:1"),
            id="address",
        ),
        pytest.param(
            {"generation": 2, "step": 10, "stage": 99},
            replace(HEARD, stage=Stage.STARTING, step_since=LATER),
            id="a stage of a newer agent",
        ),
    ],
)
def test_heartbeat(heartbeat: dict[str, Any], seen: MemberSeen) -> None:
    message = worker_service_pb2.Heartbeat(**heartbeat)
    assert wire_workers.member_with_heartbeat(RUNNING, message, LATER) == seen


def test_the_step_counter_starts_with_the_first_heartbeat() -> None:
    message = worker_service_pb2.Heartbeat(generation=2, step=10, stage=TRAINING)
    heard = wire_workers.member_with_heartbeat(replace(RUNNING, step_since=None), message, LATER)
    assert heard.step_since == LATER


def test_a_failure_is_believed_for_the_worker_that_reports_it_only() -> None:
    exited = worker_service_pb2.Exited(
        generation=4,
        outcome=worker_service_pb2.OUTCOME_CRASHED,
        step=17,
        failure={"reason": "TrainerCrashed", "worker": 9, "generation": 8, "exit_code": 1},
    )
    failure = Failure("TrainerCrashed", "", worker=3, exit_code=1, generation=4, time=LATER)
    assert wire_workers.exited_from_wire(exited, 3, LATER) == ExitedSeen(
        4, Outcome.CRASHED, 17, failure
    )


def test_a_failure_keeps_the_time_that_the_agent_gave_it() -> None:
    exited = worker_service_pb2.Exited(
        outcome=worker_service_pb2.OUTCOME_CRASHED,
        failure=wire.failure_to_wire(Failure("TrainerCrashed", "", time=NOW)),
    )
    seen = wire_workers.exited_from_wire(exited, 0, LATER).failure
    assert seen is not None
    assert seen.time == NOW


def test_a_long_failure_keeps_the_beginning_of_its_message_and_the_end_of_its_details() -> None:
    exited = worker_service_pb2.Exited(
        outcome=worker_service_pb2.OUTCOME_INVALID,
        failure={"message": "m" + "x" * 9999, "details": "x" * 99_999 + "ValueError: here"},
    )
    seen = wire_workers.exited_from_wire(exited, 0, NOW).failure
    assert seen is not None
    assert len(seen.message) == 2_000
    assert seen.message.startswith("m")
    assert len(seen.details) == 16_000
    assert seen.details.endswith("ValueError: here")


def test_what_is_stored_with_the_job_stays_small() -> None:
    metrics = {f"class_{i:04}": float(i) for i in range(10_000)} | {"a" * 129: 1.0}
    heartbeat = worker_service_pb2.Heartbeat(
        generation=2,
        address="a" * 9999,
        progress={"step": 10, "metrics": metrics},
        checkpoint={"id": "i" * 9999, "metrics": metrics},
    )
    seen = wire_workers.member_with_heartbeat(RUNNING, heartbeat, LATER)
    kept = tuple((f"class_{i:04}", float(i)) for i in range(256))
    assert seen.progress == Progress(10, metrics=kept)
    assert seen.checkpoint is not None
    assert (len(seen.checkpoint.id), seen.checkpoint.metrics) == (128, kept)
    assert len(seen.address) == 260


@pytest.mark.parametrize("outcome", [pytest.param(0, id="none"), pytest.param(55, id="unknown")])
def test_an_end_without_a_known_outcome_is_refused(outcome: int) -> None:
    exited = worker_service_pb2.Exited(outcome=outcome)  # type: ignore[arg-type]
    with pytest.raises(InvalidJob, match=r"send one of 1 \(DONE\)"):
        wire_workers.exited_from_wire(exited, 0, NOW)


def test_orders() -> None:
    start = wire_workers.order_to_wire(StartOrder(1, 5, ("a:1", "b:2"), 1), '{"job": 1}').start
    assert (start.generation, list(start.cluster), start.position) == (5, ["a:1", "b:2"], 1)
    assert start.assignment == '{"job": 1}'
    stop = wire_workers.order_to_wire(StopOrder(1, 5, save=True, grace_s=9), "").stop
    assert (stop.generation, stop.save, stop.grace_seconds) == (5, True, 9)
    assert wire_workers.order_to_wire(ReleaseOrder(1), "").WhichOneof("kind") == "release"


def test_what_happened_while_the_controller_was_away_is_in_the_first_message_and_is_heard() -> None:
    hello = worker_service_pb2.Hello(
        index=0,
        pod_uid="pod",
        exited=worker_service_pb2.Exited(generation=3, outcome=worker_service_pb2.OUTCOME_DONE),
        heartbeat=worker_service_pb2.Heartbeat(
            step=5000,
            progress=job_pb2.Progress(step=5000, total_steps=5000, loss=0.1),
            checkpoint=job_pb2.Checkpoint(id="step-0000005000.g000003", step=5000, generation=3),
        ),
    )
    seen = wire_workers.member_from_hello(hello, NOW)
    assert seen.progress is not None
    assert seen.progress.step == 5000
    assert seen.checkpoint is not None
    assert seen.checkpoint.step == 5000


def test_a_checkpoint_in_a_heartbeat_is_kept_until_another_generation_begins() -> None:
    hello = worker_service_pb2.Hello(index=0, pod_uid="pod", running=1)
    seen = wire_workers.member_from_hello(hello, NOW)
    checkpoint = job_pb2.Checkpoint(id="x", step=7)
    beat = worker_service_pb2.Heartbeat(generation=1, checkpoint=checkpoint)
    seen = wire_workers.member_with_heartbeat(seen, beat, NOW)
    assert seen.checkpoint is not None
    assert seen.checkpoint.step == 7
    ended = wire_workers.member_with_heartbeat(seen, worker_service_pb2.Heartbeat(), NOW)
    assert ended.checkpoint == seen.checkpoint
    anew = wire_workers.member_with_heartbeat(
        ended, worker_service_pb2.Heartbeat(generation=2), NOW
    )
    assert anew.checkpoint is None
