"""The controller's door judges the shared table of specs; tests/cluster tries the other door."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from controller.errors import InvalidJob
from controller.parse_spec import check_range, spec_from_wire
from protos.taas.v1 import job_pb2
from tests.unit.bad_specs import BAD_SPECS, GOOD_CHANGES, SOUND, BadSpec

_MOST_WORKERS = 1024


def parsed(spec: dict[str, Any]) -> None:
    message = json_format.ParseDict(spec, job_pb2.TrainingJobSpec())
    spec_from_wire(message, "spec")
    # The installation's limit, which the CRD has as well.
    check_range(message.workers, "spec.workers", 1, _MOST_WORKERS)


@pytest.mark.parametrize("bad", BAD_SPECS, ids=lambda bad: bad.what)
def test_a_bad_spec_is_refused(bad: BadSpec) -> None:
    with pytest.raises(InvalidJob) as caught:
        parsed(bad.spec)
    assert caught.value.field == f"spec.{bad.field}"


@pytest.mark.parametrize("changes", GOOD_CHANGES.values(), ids=list(GOOD_CHANGES))
def test_a_sound_spec_is_accepted(changes: dict[str, Any]) -> None:
    parsed({key: value for key, value in (SOUND | changes).items() if value is not None})
