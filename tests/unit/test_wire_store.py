"""Stored documents lose nothing, and rubbish is recognised."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from controller import wire_store
from controller.model import (
    Failure,
    Job,
    JobKey,
    LogEntry,
    Phase,
    Source,
    Spec,
    StateChange,
    Task,
    WorkerChange,
    WorkerState,
)
from protos.taas.v1 import history_pb2, job_pb2
from tests.unit import domain_values

NOW = datetime(2030, 4, 5, 6, 7, 8, 901234, tzinfo=UTC)


@settings(max_examples=60, deadline=None)
@given(domain_values.jobs)
def test_any_job_survives_the_store(job: Job) -> None:
    text = wire_store.job_to_json(job)
    assert "\n" not in text
    assert wire_store.job_from_json(text) == job


@settings(max_examples=60, deadline=None)
@given(domain_values.entries)
def test_any_entry_survives_the_store(entry: LogEntry) -> None:
    text = wire_store.entry_to_json(entry)
    assert "\n" not in text
    assert wire_store.entry_from_json(text) == entry


# --- Documents


JOB = Job(JobKey("ns", "job"), "uid", NOW, Spec(Task("task.py"), Source("ab", 1)), request_id="r")


def document(**changes: Any) -> str:
    return json.dumps(json.loads(wire_store.job_to_json(JOB)) | changes)


def test_a_stored_job_has_its_fields_as_proto_json() -> None:
    raw = json.loads(wire_store.job_to_json(replace(JOB, fingerprint="f", version="7")))
    assert raw["requestId"] == "r"
    assert raw["fingerprint"] == "f"
    assert raw["job"]["name"] == "namespaces/ns/trainingJobs/job"
    assert raw["job"]["createTime"] == "2030-04-05T06:07:08.901234Z"
    assert raw["job"]["etag"] == "7"
    assert raw["job"]["spec"]["task"] == {"module": "task.py"}
    assert raw["job"]["status"]["phase"] == "PHASE_PENDING"


def test_fields_of_a_newer_version_are_passed_over() -> None:
    raw = json.loads(wire_store.job_to_json(JOB))
    raw["job"]["spec"]["colour"] = "blue"
    raw["new"] = 1
    assert wire_store.job_from_json(json.dumps(raw)) == JOB


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="torn"),
        pytest.param("[]", id="list"),
        pytest.param('"text"', id="text"),
        pytest.param("null", id="null"),
        pytest.param("{}", id="nothing in it"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param('{"job": []}', id="job is a list"),
        pytest.param('{"job": {}, "requestId": "", "fingerprint": ""}', id="empty job"),
        pytest.param(document(job={"name": "a/b/c/d"}), id="no time"),
        pytest.param(document(job={"name": "x", "createTime": "2030-01-01T00:00:00Z"}), id="name"),
        pytest.param(document(job={"createTime": "yesterday"}), id="bad time"),
        pytest.param(
            document(
                job={
                    "name": "a/b/c/d",
                    "createTime": "2030-01-01T00:00:00Z",
                    "status": {"phase": 99},
                }
            ),
            id="phase number",
        ),
        pytest.param('{"job": {"status": {"phase": Infinity}}}', id="phase without end"),
        pytest.param('{"job": {"\\ud800": 1}}', id="half a surrogate pair"),
        pytest.param(
            json.dumps({"job": json.loads(wire_store.job_to_json(JOB))["job"], "fingerprint": ""}),
            id="no request id",
        ),
    ],
)
def test_rubbish_is_no_stored_job(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        wire_store.job_from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="list"),
        pytest.param("{}", id="nothing in it"),
        pytest.param('{"number": 1, "event": 3}', id="event is a number"),
        pytest.param('{"number": 1, "event": {"state": {}}}', id="no time"),
        pytest.param(
            '{"number": "x", "event": {"time": "2030-01-01T00:00:00Z", "state": {}}}',
            id="number is a text",
        ),
        pytest.param(
            '{"number": 1, "event": {"time": "2030-01-01T00:00:00Z"}}', id="neither of them"
        ),
        pytest.param(
            '{"number": 1, "event": {"time": "2030-01-01T00:00:00Z", "record": {}}}', id="record"
        ),
        pytest.param(
            '{"number": 1, "event": {"time": "2030-01-01T00:00:00Z", "state": {}}}', id="no phase"
        ),
        pytest.param(
            '{"number": 1, "event": {"time": "2030-01-01T00:00:00Z", "worker": {"from": 50}}}',
            id="unknown worker state",
        ),
    ],
)
def test_rubbish_is_no_entry(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        wire_store.entry_from_json(text)


def test_an_entry_becomes_an_event_with_the_cursor() -> None:
    failure = Failure("TrainerCrashed", "it broke", worker=1)
    change = StateChange(Phase.RUNNING, Phase.RESTARTING, 3, "again", failure)
    event = wire_store.entry_to_event(LogEntry(5, NOW, change), "c5")
    assert event.cursor == "c5"
    assert event.time.ToDatetime(tzinfo=UTC) == NOW
    assert getattr(event.state, "from") == job_pb2.PHASE_RUNNING
    assert event.state.to == job_pb2.PHASE_RESTARTING
    assert (event.state.generation, event.state.message) == (3, "again")
    assert event.state.failure.reason == "TrainerCrashed"


def test_a_workers_change_becomes_an_event() -> None:
    change = WorkerChange(2, WorkerState.READY, WorkerState.LOST, 4, "gone")
    event = wire_store.entry_to_event(LogEntry(6, NOW, change), "c6")
    assert event.worker.index == 2
    assert getattr(event.worker, "from") == job_pb2.WORKER_STATE_READY
    assert event.worker.to == job_pb2.WORKER_STATE_LOST
    assert (event.worker.generation, event.worker.message) == (4, "gone")


def test_a_line_becomes_a_record() -> None:
    record = wire_store.record_from_json(
        '{"generation":2,"index":"7","progress":{"step":"9"},"new":1}'
    )
    assert record == history_pb2.Record(generation=2, index=7, progress=job_pb2.Progress(step=9))


def test_a_loss_that_is_no_number_survives() -> None:
    record = wire_store.record_from_json('{"progress":{"loss":"NaN","metrics":{"a":"Infinity"}}}')
    assert record.progress.loss != record.progress.loss
    assert record.progress.metrics["a"] == float("inf")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="empty"),
        pytest.param('{"generation":2,"prog', id="torn"),
        pytest.param("[]", id="list"),
        pytest.param('"progress"', id="text"),
        pytest.param("Epoch 1/10", id="printed by the program"),
        pytest.param("{}", id="nothing in it"),
        pytest.param('{"generation": 1}', id="no kind"),
        pytest.param('{"progress": 3}', id="progress is a number"),
        pytest.param('{"progress": {"step": "many"}}', id="step is a word"),
        pytest.param('{"progress": {}, "notice": {}}', id="two kinds"),
    ],
)
def test_rubbish_is_no_record(line: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        wire_store.record_from_json(line)
