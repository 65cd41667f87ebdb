"""The resource definition says what the protos say, and its rules name what is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2

from controller import crd_rules
from controller.crd import crd
from controller.model import Spec, Task
from controller.wire import spec_to_wire
from protos.taas.v1 import job_pb2
from tools import crd as tool


@pytest.fixture(scope="module")
def definition() -> dict[str, Any]:
    return dict(yaml.safe_load(tool.TARGET.read_text()))


@pytest.fixture(scope="module")
def schema(definition: dict[str, Any]) -> dict[str, Any]:
    (version,) = definition["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"])


def every(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from every(inner, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if part in schema:
            yield from every(schema[part], f"{path}[]")


def test_the_committed_definition_is_fresh() -> None:
    assert tool.TARGET.read_text() == tool.text()


@pytest.mark.parametrize(
    ("part", "message"),
    [("spec", job_pb2.TrainingJobSpec), ("status", job_pb2.TrainingJobStatus)],
)
def test_every_field_is_there(schema: dict[str, Any], part: str, message: Any) -> None:
    names = {field.json_name for field in message.DESCRIPTOR.fields}
    # The event log lies beside the status of the protos.
    extra = {"events"} if part == "status" else set()
    assert set(schema["properties"][part]["properties"]) == names | extra


def test_every_part_that_people_write_is_described(schema: dict[str, Any]) -> None:
    bare = [
        path
        for path, part in every(schema["properties"]["spec"])
        if not part.get("description") and not path.endswith("[]")
    ]
    assert bare == []


def test_descriptions_spell_fields_as_manifests_do(schema: dict[str, Any]) -> None:
    fields = schema["properties"]["spec"]["properties"]["checkpoints"]["properties"]
    assert "everySteps is set" in fields["everySeconds"]["description"]


def test_defaults_are_those_of_the_domain(schema: dict[str, Any]) -> None:
    sent = spec_to_wire(Spec(Task("/task.py")))
    fields = schema["properties"]["spec"]["properties"]
    for name, field in fields.items():
        default = field.get("default")
        if isinstance(default, int):
            wire = job_pb2.TrainingJobSpec.DESCRIPTOR.fields_by_camelcase_name[name].name
            assert getattr(sent, wire) == default, name
    assert fields["storage"]["properties"]["claimName"]["default"] == sent.storage.claim_name
    assert fields["pod"]["properties"]["gpuResource"]["default"] == sent.pod.gpu_resource


def test_what_a_choice_and_a_map_and_a_time_become(schema: dict[str, Any]) -> None:
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    assert {
        "rule": "(has(self.task) ? 1 : 0) + (has(self.script) ? 1 : 0) + "
        "(has(self.command) ? 1 : 0) == 1",
        "message": "program: set exactly one of task, script, command",
    } in (spec["x-kubernetes-validations"])
    assert spec["properties"]["parameters"]["additionalProperties"]["type"] == "string"
    assert status["properties"]["startTime"]["format"] == "date-time"
    assert status["properties"]["lastEvent"]["x-kubernetes-int-or-string"] is True
    assert "PHASE_RUNNING" in status["properties"]["phase"]["enum"]
    assert status["properties"]["workers"]["items"]["properties"]["index"]["type"] == "integer"


def test_what_people_see(definition: dict[str, Any]) -> None:
    (version,) = definition["spec"]["versions"]
    columns = [c["name"] for c in version["additionalPrinterColumns"] if not c.get("priority")]
    assert columns == [
        *("Phase", "Ready", "Workers", "Step", "Total", "Loss"),
        *("Examples/s", "Left", "Restarts", "Age"),
    ]
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.workers",
        "statusReplicasPath": ".status.readyWorkers",
    }


def test_descriptors_without_comments_are_refused() -> None:
    files = descriptor_pb2.FileDescriptorSet()
    job_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    with pytest.raises(ValueError, match="have no comments"):
        crd(files)


@pytest.mark.parametrize("name", ["Nothing.x", "TrainingJobSpec.nothing"])
def test_a_rule_for_what_is_not_there_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(crd_rules.FIELDS, name, {})
    with pytest.raises(ValueError, match=f"names {name}, which is not in the protos"):
        crd(tool.descriptors())
