"""Judges the request for a new job and makes the job of it. Pure.

Names are judged in controller.parse_names, specs in parse_spec, filters of lists in
parse_filter. Conversions that judge nothing are in wire (jobs), wire_store (documents) and
wire_workers (the agents' stream).
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from google.protobuf import json_format

from controller.errors import InvalidJob
from controller.model import Job, JobKey
from controller.parse_names import job_id, parent
from controller.parse_spec import spec_from_wire
from controller.parse_values import check_labels, check_range
from protos.taas.v1 import job_pb2, training_service_pb2

_MOST_REQUEST_ID_CHARS = 128


def new_job(
    request: training_service_pb2.CreateTrainingJobRequest,
    *,
    uid: str,
    now: datetime,
    max_workers: int,
) -> Job:
    """Check the whole of a create request and return the job it asks for. Raises InvalidJob."""
    key = JobKey(parent(request.parent, "parent"), job_id(request.training_job_id, "trainingJobId"))
    if len(request.request_id) > _MOST_REQUEST_ID_CHARS:
        raise InvalidJob(
            "requestId",
            f"has {len(request.request_id)} characters; use at most {_MOST_REQUEST_ID_CHARS}",
        )
    wanted = request.training_job
    spec = spec_from_wire(wanted.spec, "trainingJob.spec")
    check_range(spec.workers, "trainingJob.spec.workers", 1, max_workers)
    check_labels(wanted.labels, "trainingJob.labels")
    return Job(
        key=key,
        uid=uid,
        created=now,
        spec=spec,
        labels=tuple(sorted(wanted.labels.items())),
        request_id=request.request_id,
        fingerprint=fingerprint(wanted),
    )


def fingerprint(job: job_pb2.TrainingJob) -> str:
    """Return a SHA-256 in hex of the labels and the spec as a client sent them."""
    # JSON with sorted keys, since protobuf promises equal bytes only within one version of it,
    # and a repeated request may meet a service that was upgraded in between.
    asked = json_format.MessageToDict(job_pb2.TrainingJob(labels=job.labels, spec=job.spec))
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def same_request(stored: Job, new: Job) -> bool:
    """Say whether `new` is the request that made `stored`, sent again. The stored spec may have
    been scaled or suspended since, so the specs as they were asked for are compared."""
    identified = bool(new.request_id) and new.request_id == stored.request_id
    return identified and new.fingerprint == stored.fingerprint
