"""Conversions between domain and wire lose nothing, for every field there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any, TypeVar

import pytest
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings

from controller import wire
from controller.errors import InvalidJob
from controller.model import (
    Failure,
    Job,
    JobKey,
    Outcome,
    Phase,
    Progress,
    Source,
    Spec,
    Stage,
    Status,
    StorageTrouble,
    Task,
    Worker,
    WorkerState,
)
from protos.taas.v1 import job_pb2, worker_service_pb2
from tests.unit import domain_values

NOW = datetime(2030, 4, 5, 6, 7, 8, 901234, tzinfo=UTC)
M = TypeVar("M", bound=Message)

# What a status has on the wire although it follows from the rest.
DERIVED = ("conditions", "ready_workers", "goodput")
PROGRAMS = {f.name for f in job_pb2.TrainingJobSpec.DESCRIPTOR.oneofs_by_name["program"].fields}


def filled(message: M, numbers: Iterator[int] | None = None, program: str = "task") -> M:
    """Set every field of a message, by its descriptor, to a value that no other field has; of
    the kinds of a program, only one."""
    numbers = numbers or count(2)
    if isinstance(message, Timestamp):
        message.FromDatetime(NOW + timedelta(seconds=next(numbers), microseconds=1))
        return message
    if isinstance(message, Struct):
        message.update({"port": next(numbers), "share": 0.5, "inner": {"list": [None, True, "x"]}})
        return message
    for field in message.DESCRIPTOR.fields:
        kind = field.message_type
        if field.name in PROGRAMS and field.name != program:
            continue
        if kind is not None and kind.GetOptions().map_entry:
            key, value = kind.fields_by_name["key"], kind.fields_by_name["value"]
            for _ in range(2):
                getattr(message, field.name)[scalar(key, numbers)] = scalar(value, numbers)
        elif isinstance(getattr(message, field.name), Message):
            filled(getattr(message, field.name), numbers)
        elif kind is not None:
            for _ in range(2):
                filled(getattr(message, field.name).add(), numbers)
        elif hasattr(getattr(message, field.name), "append"):
            getattr(message, field.name).extend(scalar(field, numbers) for _ in range(2))
        else:
            setattr(message, field.name, scalar(field, numbers))
    return message


def scalar(field: Any, numbers: Iterator[int]) -> Any:
    number = next(numbers)
    if field.enum_type is not None:
        values = [v.number for v in field.enum_type.values]
        # The last one: no default, explicit or implied, is the last of its enum.
        return values[-1]
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return f"{field.name}-{number}"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return number + 0.1
    assert field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
    return number


ROUND_TRIPS = [
    pytest.param(
        job_pb2.TrainingJobSpec,
        lambda message: wire.spec_to_wire(wire.spec_with_defaults(message)),
        id="spec",
    ),
    pytest.param(
        job_pb2.TrainingJobStatus,
        lambda message: wire.status_to_wire(wire.status_from_wire(message)),
        id="status",
    ),
    pytest.param(
        job_pb2.Failure,
        lambda message: wire.failure_to_wire(wire.failure_from_wire(message)),
        id="failure",
    ),
    pytest.param(
        job_pb2.Progress,
        lambda message: wire.progress_to_wire(wire.progress_from_wire(message)),
        id="progress",
    ),
    pytest.param(
        job_pb2.Checkpoint,
        lambda message: wire.checkpoint_to_wire(wire.checkpoint_from_wire(message)),
        id="checkpoint",
    ),
]


def without_derived(message: M) -> M:
    for name in DERIVED:
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    return message


@pytest.mark.parametrize(("kind", "there_and_back"), ROUND_TRIPS)
def test_no_field_of_the_wire_is_lost(
    kind: type[Message], there_and_back: Callable[[Any], Message]
) -> None:
    message = without_derived(filled(kind()))
    assert without_derived(there_and_back(message)) == message


@pytest.mark.parametrize(("kind", "there_and_back"), ROUND_TRIPS)
def test_the_filling_reaches_every_field(
    kind: type[Message], there_and_back: Callable[[Any], Message]
) -> None:
    message = filled(kind())
    expected = set(message.DESCRIPTOR.fields_by_name) - (PROGRAMS - {"task"})
    assert {f.name for f, _ in message.ListFields()} == expected


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_no_kind_of_program_is_lost(program: str) -> None:
    message = filled(job_pb2.TrainingJobSpec(), program=program)
    assert message.WhichOneof("program") == program
    if program == "command":
        # It makes no steps that could fail to come.
        message.progress_deadline_seconds = 0
    assert wire.spec_to_wire(wire.spec_with_defaults(message)) == message


def test_no_field_of_a_job_is_lost() -> None:
    message = filled(job_pb2.TrainingJob())
    message.name = "namespaces/vision/trainingJobs/mnist"
    without_derived(message.status)
    back = wire.job_to_wire(wire.job_from_wire(message))
    without_derived(back.status)
    assert back == message


def test_every_field_of_the_domain_is_set_from_a_filled_wire_message() -> None:
    message = filled(job_pb2.TrainingJob())
    message.name = "namespaces/vision/trainingJobs/mnist"
    job = wire.job_from_wire(message, request_id="r", fingerprint="f")
    default = Job(key=JobKey("", ""), uid="", created=NOW, spec=Spec(Task(""), Source("", 0)))
    for one, other in ((job, default), (job.spec, default.spec), (job.status, default.status)):
        for field in fields(one):
            if field.name not in ("generation_ended",):  # its default is also its only sane one
                assert getattr(one, field.name) != getattr(other, field.name), field.name


@pytest.mark.parametrize(
    ("kind", "message", "prefix"),
    [
        pytest.param(Phase, job_pb2.Phase.DESCRIPTOR, "PHASE_", id="phase"),
        pytest.param(WorkerState, job_pb2.WorkerState.DESCRIPTOR, "WORKER_STATE_", id="worker"),
        pytest.param(
            Stage, worker_service_pb2.TrainerStage.DESCRIPTOR, "TRAINER_STAGE_", id="stage"
        ),
        pytest.param(Outcome, worker_service_pb2.Outcome.DESCRIPTOR, "OUTCOME_", id="outcome"),
    ],
)
def test_enums_have_the_same_members(kind: Any, message: EnumDescriptor, prefix: str) -> None:
    names = {v.name.removeprefix(prefix) for v in message.values}
    assert names == {member.value for member in kind} | {"UNSPECIFIED"}


@settings(max_examples=60, deadline=None)
@given(domain_values.statuses)
def test_any_status_survives_the_wire(status: Status) -> None:
    data = wire.status_to_wire(status).SerializeToString()
    assert wire.status_from_wire(job_pb2.TrainingJobStatus.FromString(data)) == status


def test_whole_numbers_of_a_template_stay_whole() -> None:
    template = Struct()
    template.update({"ports": [{"containerPort": 8080}], "share": 0.5})
    spec = wire.spec_with_defaults(
        job_pb2.TrainingJobSpec(pod=job_pb2.PodOptions(template=template))
    )
    assert spec.pod.template == '{"ports": [{"containerPort": 8080}], "share": 0.5}'


def test_the_fewest_workers_are_left_open_where_they_follow_the_workers() -> None:
    assert wire.spec_to_wire(Spec(Task("task.py"), workers=3, min_workers=3)).min_workers == 0
    assert wire.spec_to_wire(Spec(Task("task.py"), workers=3, min_workers=2)).min_workers == 2


@settings(max_examples=60, deadline=None)
@given(domain_values.specs)
def test_any_spec_survives_the_wire(spec: Spec) -> None:
    assert wire.spec_with_defaults(wire.spec_to_wire(spec)) == spec


# --- Status


def test_a_status_that_was_never_written_is_that_of_a_new_job() -> None:
    assert wire.status_from_wire(job_pb2.TrainingJobStatus()) == Status()


def test_a_status_without_progress_has_made_none() -> None:
    message = job_pb2.TrainingJobStatus(phase=job_pb2.PHASE_PENDING)
    assert wire.status_from_wire(message).progress == Progress()


@pytest.mark.parametrize(
    ("phase", "true"),
    [
        pytest.param(Phase.PENDING, set(), id="pending"),
        pytest.param(Phase.STARTING, set(), id="starting"),
        pytest.param(Phase.RUNNING, {"Running"}, id="running"),
        pytest.param(Phase.RESTARTING, set(), id="restarting"),
        pytest.param(Phase.SUSPENDING, set(), id="suspending"),
        pytest.param(Phase.SUSPENDED, {"Suspended"}, id="suspended"),
        pytest.param(Phase.SUCCEEDED, {"Complete"}, id="succeeded"),
        pytest.param(Phase.FAILED, {"Failed"}, id="failed"),
        pytest.param(Phase.CANCELLED, {"Failed"}, id="cancelled"),
    ],
)
def test_conditions_follow_from_the_phase(phase: Phase, true: set[str]) -> None:
    status = Status(phase=phase, phase_since=NOW, message="why")
    *conditions, storage = wire.status_to_wire(status).conditions
    assert (storage.type, storage.status, storage.message) == ("StorageFailing", "False", "")
    assert [c.type for c in conditions] == ["Complete", "Failed", "Suspended", "Running"]
    assert {c.type for c in conditions if c.status == "True"} == true
    assert {c.status for c in conditions} <= {"True", "False"}
    assert {c.reason for c in conditions} == {phase.value.capitalize()}
    assert {c.message for c in conditions} == {"why"}
    assert {c.last_transition_time.ToDatetime(tzinfo=UTC) for c in conditions} == {NOW}


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        pytest.param(Phase.FAILED, "TooManyRestarts", id="failed because of it"),
        pytest.param(Phase.RUNNING, "Running", id="running again after it"),
    ],
)
def test_a_failure_is_the_reason_of_a_failed_job_only(phase: Phase, reason: str) -> None:
    status = Status(phase=phase, last_failure=Failure("TooManyRestarts", "7 of 6"))
    reasons = {c.type: c.reason for c in wire.status_to_wire(status).conditions}
    assert reasons.pop("Failed") == reason
    assert set(reasons.values()) == {phase.value.capitalize()}


def test_storage_that_fails_is_a_condition_with_its_reason() -> None:
    trouble = StorageTrouble("No space left on device", NOW)
    status = Status(phase=Phase.RUNNING, phase_since=NOW - timedelta(1), storage_trouble=trouble)
    *_, storage = wire.status_to_wire(status).conditions
    assert (storage.type, storage.status, storage.reason) == (
        "StorageFailing",
        "True",
        "SaveFailed",
    )
    assert storage.message == "No space left on device"
    assert storage.last_transition_time.ToDatetime(tzinfo=UTC) == NOW


def test_time_left_is_said_only_when_it_is_known() -> None:
    for known in (None, 0.0, 5.0):
        told = wire.progress_to_wire(Progress(10, seconds_left=known))
        assert told.HasField("seconds_left") is (known is not None)
        assert wire.progress_from_wire(told).seconds_left == known


def test_ready_workers_are_counted() -> None:
    status = Status(workers=tuple(Worker(i, state) for i, state in enumerate(WorkerState)))
    assert wire.status_to_wire(status).ready_workers == 2


def test_times_of_other_zones_are_the_same_instants() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-7)))
    message = wire.status_to_wire(Status(phase_since=elsewhere))
    assert wire.status_from_wire(message).phase_since == NOW


@pytest.mark.parametrize(
    "time",
    [
        pytest.param(Timestamp(seconds=2**62), id="seconds beyond the calendar"),
        pytest.param(Timestamp(nanos=-1), id="negative nanos"),
        pytest.param(Timestamp(nanos=10**9), id="nanos of a whole second"),
    ],
)
def test_an_impossible_time_is_refused(time: Timestamp) -> None:
    with pytest.raises(InvalidJob, match="is no time") as caught:
        wire.checkpoint_from_wire(job_pb2.Checkpoint(create_time=time))
    assert caught.value.field == "create_time"


def test_a_checkpoint_without_a_time_is_as_old_as_can_be() -> None:
    assert wire.checkpoint_from_wire(job_pb2.Checkpoint(id="c")).created.timestamp() == 0


@pytest.mark.parametrize(
    ("message", "field"),
    [
        pytest.param({"phase": 99}, "phase", id="phase"),
        pytest.param({"phase": 1, "workers": [{"state": 77}]}, "workers.state", id="worker"),
        pytest.param({"phase": 1, "workers": [{}]}, "workers.state", id="worker without a state"),
    ],
)
def test_an_unknown_enum_number_is_refused(message: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidJob, match=r"is not known; send one of 1 \(PENDING\)") as caught:
        wire.status_from_wire(job_pb2.TrainingJobStatus(**message))
    assert caught.value.field == field
