"""A request with a field that this version does not know is refused, wherever the field is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from controller.errors import InvalidJob
from controller.unknown_fields import checked, refuse_unknown_fields
from protos.taas.v1 import training_service_pb2 as pb
from tests.unit.create_requests import request, spec

# Field 1000 as a varint, which no message has.
UNKNOWN = b"\xc0\x3e\x07"


def with_unknown_spec() -> pb.CreateTrainingJobRequest:
    sent = request()
    sent.training_job.spec.MergeFromString(UNKNOWN)
    return sent


def with_unknown_request() -> pb.CreateTrainingJobRequest:
    sent = request()
    sent.MergeFromString(UNKNOWN)
    return sent


def with_unknown_policy() -> pb.CreateTrainingJobRequest:
    sent = request()
    sent.training_job.spec.checkpoints.MergeFromString(UNKNOWN)
    return sent


def with_unknown_in_a_list() -> pb.CreateTrainingJobRequest:
    sent = request(labels={"a": "b"})
    sent.training_job.status.members.append(1)
    sent.training_job.status.workers.add()
    sent.training_job.status.workers.add().MergeFromString(UNKNOWN)
    return sent


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        pytest.param(with_unknown_request(), "CreateTrainingJobRequest", id="request"),
        pytest.param(with_unknown_spec(), "trainingJob.spec", id="spec"),
        pytest.param(with_unknown_policy(), "trainingJob.spec.checkpoints", id="policy"),
        pytest.param(with_unknown_in_a_list(), "trainingJob.status.workers[1]", id="in a list"),
    ],
)
def test_an_unknown_field_is_refused(sent: pb.CreateTrainingJobRequest, field: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        checked(pb.CreateTrainingJobRequest.FromString(sent.SerializeToString()))
    assert caught.value.field == field
    assert "field number 1000" in caught.value.why
    assert "upgrade the service" in caught.value.why


def test_known_fields_everywhere_are_no_unknown_ones() -> None:
    sent = request(spec(parameters={"a": "b"}), labels={"a": "b"})
    sent.training_job.status.members.append(1)
    sent.training_job.status.workers.add()
    refuse_unknown_fields(sent)


async def test_a_stream_is_refused_at_the_message_that_has_it() -> None:
    async def sent() -> AsyncIterator[pb.UploadSourceRequest]:
        yield pb.UploadSourceRequest(data=b"sound")
        yield pb.UploadSourceRequest.FromString(UNKNOWN)

    requests = checked(sent())
    assert (await anext(requests)).data == b"sound"
    with pytest.raises(InvalidJob, match="UploadSourceRequest: has field number 1000"):
        await anext(requests)
