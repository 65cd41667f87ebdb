"""A request for a job becomes the job it asks for, once, or is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller import parse, wire_store
from controller.model import CheckpointPolicy, Job, JobKey, Source, Spec, Status, Task
from protos.taas.v1 import job_pb2, training_service_pb2
from tests.unit.create_requests import DIGEST, NOW, new, refusal, request, spec

# --- A sound request


def test_a_bare_request_gets_the_defaults_of_the_proto() -> None:
    job = new(request())
    assert job == Job(
        key=JobKey("vision", "mnist"),
        uid="uid-1",
        created=NOW,
        spec=Spec(
            program=Task("task.py"),
            source=Source(DIGEST, 10),
            workers=2,
            min_workers=2,
            elastic_wait_s=5,
            parameters=(),
            env=(),
            checkpoints=CheckpointPolicy(
                every_steps=0, every_seconds=60, keep_last=3, best_metric="", best_mode="max"
            ),
            max_restarts=6,
            active_deadline_s=None,
            start_deadline_s=600,
            progress_deadline_s=600,
            ttl_after_finished_s=None,
            grace_s=30,
            suspend=False,
            cancel=False,
        ),
        labels=(),
        request_id="",
        fingerprint=job.fingerprint,
        deleting=None,
        version="",
        status=Status(),
    )


def test_everything_that_was_asked_for_arrives() -> None:
    full = spec(
        task={"module": "train/lenet.py"},
        workers=4,
        min_workers=3,
        elastic_wait_seconds=7,
        parameters={"rate": "0.1", "batch": "128"},
        env={"B": "2", "A": "1"},
        checkpoints={
            "every_steps": 100,
            "every_seconds": 20,
            "keep_last": 5,
            "best_metric": "loss",
            "best_mode": job_pb2.BEST_MODE_MIN,
        },
        max_restarts=1,
        active_deadline_seconds=2,
        start_deadline_seconds=3,
        progress_deadline_seconds=4,
        ttl_seconds_after_finished=5,
        suspend=True,
        cancel=True,
        grace_seconds=6,
    )
    job = new(request(full, labels={"z": "1", "a": ""}, request_id="r-1"))
    assert job.spec == Spec(
        program=Task("train/lenet.py"),
        source=Source(DIGEST, 10),
        workers=4,
        min_workers=3,
        elastic_wait_s=7,
        parameters=(("batch", "128"), ("rate", "0.1")),
        env=(("A", "1"), ("B", "2")),
        checkpoints=CheckpointPolicy(100, 20, 5, "loss", "min"),
        max_restarts=1,
        active_deadline_s=2,
        start_deadline_s=3,
        progress_deadline_s=4,
        ttl_after_finished_s=5,
        grace_s=6,
        suspend=True,
        cancel=True,
    )
    assert job.labels == (("a", ""), ("z", "1"))
    assert job.request_id == "r-1"


def test_what_is_the_services_is_not_taken_from_the_request() -> None:
    sent = request()
    sent.training_job.name = "namespaces/other/trainingJobs/other"
    sent.training_job.uid = "mine"
    sent.training_job.etag = "5"
    sent.training_job.create_time.FromSeconds(1)
    sent.training_job.delete_time.FromSeconds(1)
    sent.training_job.status.phase = job_pb2.PHASE_SUCCEEDED
    assert new(sent) == new(request())


@pytest.mark.parametrize(
    ("sent", "field", "says"),
    [
        pytest.param(
            training_service_pb2.CreateTrainingJobRequest(),
            "parent",
            "namespaces/NAMESPACE",
            id="empty",
        ),
        pytest.param(request(parent="namespaces/-"), "parent", "name one", id="wildcard parent"),
        pytest.param(request(training_job_id=""), "trainingJobId", "''", id="no id"),
        pytest.param(request(training_job=None), "trainingJob.spec.task", "missing", id="no job"),
        pytest.param(
            request(request_id="r" * 129),
            "requestId",
            "has 129 characters; use at most 128",
            id="id",
        ),
    ],
)
def test_a_bad_request_is_refused(
    sent: training_service_pb2.CreateTrainingJobRequest, field: str, says: str
) -> None:
    error = refusal(sent)
    assert error.field == field
    assert says in error.why


def test_the_longest_request_id_is_accepted() -> None:
    assert new(request(request_id="é" * 128)).request_id == "é" * 128


# --- Repeated requests


def test_a_repeated_request_is_the_same() -> None:
    full = spec(parameters={"a": "1", "b": "2"}, env={"A": "1", "B": "2"})
    again = spec(env={"B": "2", "A": "1"}, parameters={"b": "2", "a": "1"})
    first = new(request(full, labels={"x": "1", "y": "2"}, request_id="r"))
    second = new(request(again, labels={"y": "2", "x": "1"}, request_id="r"))
    assert parse.same_request(first, second)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(request(request_id="r"), True, id="the same again"),
        pytest.param(request(request_id="q"), False, id="another request id"),
        pytest.param(request(request_id=""), False, id="no request id"),
        pytest.param(request(spec(workers=1), request_id="r"), False, id="another spec"),
        pytest.param(request(labels={"a": "b"}, request_id="r"), False, id="other labels"),
        pytest.param(request(request_id="r", validate_only=True), True, id="a try before"),
    ],
)
def test_what_is_the_same_request(
    other: training_service_pb2.CreateTrainingJobRequest, same: bool
) -> None:
    assert parse.same_request(new(request(request_id="r")), new(other)) is same


def test_requests_without_an_id_are_never_the_same() -> None:
    assert not parse.same_request(new(request()), new(request()))


def test_a_job_that_changed_since_is_still_the_same_request() -> None:
    stored = new(request(request_id="r"))
    stored = replace(stored, spec=replace(stored.spec, workers=7, suspend=True), version="9")
    stored = wire_store.job_from_json(wire_store.job_to_json(stored))
    assert parse.same_request(stored, new(request(request_id="r")))


def test_the_fingerprint_never_changes_between_versions() -> None:
    job = job_pb2.TrainingJob(spec=spec(parameters={"b": "2", "a": "1"}), labels={"k": "v"})
    assert parse.fingerprint(job) == (
        "e640f6cb3c4a7710062333754bb8d71cf40a8009b04189f1b68b7f7b8d1fe233"
    )
