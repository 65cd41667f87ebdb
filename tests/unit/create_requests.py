"""Requests for a new job, sound unless a test changes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from controller import parse
from controller.errors import InvalidJob
from controller.model import Job
from protos.taas.v1 import job_pb2, training_service_pb2

NOW = datetime(2030, 4, 5, 6, 7, 8, 901234, tzinfo=UTC)
DIGEST = "0123456789abcdef" * 4
MOST_WORKERS = 8


def spec(**changes: Any) -> job_pb2.TrainingJobSpec:
    given: dict[str, Any] = {
        "task": {"module": "task.py"},
        "source": {"digest": DIGEST, "size_bytes": 10},
        "workers": 2,
    }
    return job_pb2.TrainingJobSpec(**given | changes)


def request(
    wanted: job_pb2.TrainingJobSpec | None = None,
    labels: dict[str, str] | None = None,
    **changes: Any,
) -> training_service_pb2.CreateTrainingJobRequest:
    job = job_pb2.TrainingJob(spec=wanted or spec(), labels=labels)
    given: dict[str, Any] = {
        "parent": "namespaces/vision",
        "training_job_id": "mnist",
        "training_job": job,
    }
    return training_service_pb2.CreateTrainingJobRequest(**given | changes)


def new(request: training_service_pb2.CreateTrainingJobRequest) -> Job:
    return parse.new_job(request, uid="uid-1", now=NOW, max_workers=MOST_WORKERS)


def refusal(request: training_service_pb2.CreateTrainingJobRequest) -> InvalidJob:
    with pytest.raises(InvalidJob) as caught:
        new(request)
    return caught.value
