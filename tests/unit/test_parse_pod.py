"""A pod template may change everything but what the service needs."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from controller.errors import InvalidJob
from controller.parse_pod import check_pod
from protos.taas.v1 import job_pb2

PORT = "spec.containers[1].ports[1].containerPort"


def refusal(template: dict[str, Any]) -> InvalidJob:
    struct = Struct()
    struct.update(template)
    with pytest.raises(InvalidJob) as caught:
        check_pod(job_pb2.PodOptions(template=struct), "pod")
    return caught.value


def worker(**changes: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "side"}, {"name": "worker", **changes}]}}


@pytest.mark.parametrize(
    ("template", "field", "says"),
    [
        pytest.param({"spec": "x"}, "spec", "no map", id="spec is a text"),
        pytest.param({"kind": "Pod"}, "kind", "metadata and spec", id="another field"),
        pytest.param({"metadata": []}, "metadata", "no map", id="metadata is a list"),
        pytest.param({"metadata": {"name": "x"}}, "metadata.name", "cannot be set", id="name"),
        pytest.param(
            {"metadata": {"labels": {"taas.dev/job": "x"}}},
            "metadata.labels",
            "choose another prefix",
            id="label of the service",
        ),
        pytest.param(
            {"spec": {"restartPolicy": "Always"}},
            "spec.restartPolicy",
            "restarted by the service",
            id="restart policy",
        ),
        pytest.param(
            {"spec": {"terminationGracePeriodSeconds": 5}},
            "spec.terminationGracePeriodSeconds",
            "spec.graceSeconds",
            id="grace",
        ),
        pytest.param(
            {"spec": {"containers": None}}, "spec.containers", "name the container", id="null"
        ),
        pytest.param(
            {"spec": {"containers": [{"image": "x"}]}},
            "spec.containers[0]",
            "has no name",
            id="container without a name",
        ),
        pytest.param(
            {"spec": {"volumes": ["x"]}}, "spec.volumes[0]", "has no name", id="volume is a text"
        ),
        pytest.param(
            worker(command=["sh"]), "spec.containers[1].command", "task.module", id="command"
        ),
        pytest.param(worker(args=["x"]), "spec.containers[1].args", "parameters", id="args"),
        pytest.param(worker(env=None), "spec.containers[1].env", "name the variable", id="no env"),
        pytest.param(
            worker(env=[{"name": "TAAS_JOB"}]),
            "spec.containers[1].env[0].name",
            "choose another name",
            id="reserved variable",
        ),
        pytest.param(
            worker(volumeMounts=[{"name": "x"}]),
            "spec.containers[1].volumeMounts[0]",
            "set mountPath",
            id="mount without a path",
        ),
        pytest.param(
            worker(**{"$patch": "delete"}), "spec.containers[1]", "cannot be deleted", id="deleted"
        ),
        pytest.param(
            {"metadata": {"annotations": {"a": "x" * 70_000}}},
            "",
            "use at most 65536",
            id="large",
        ),
    ],
)
def test_a_template_is_refused(template: dict[str, Any], field: str, says: str) -> None:
    error = refusal(template)
    assert error.field == f"pod.template.{field}".rstrip(".")
    assert says in error.why


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_a_number_that_json_does_not_have_is_refused(number: float) -> None:
    for template, field in [
        ({"spec": {"priority": number}}, "spec.priority"),
        (worker(ports=[{"containerPort": 1}, {"containerPort": number}]), PORT),
        ({"a": [[number]]}, "a[0][0]"),
    ]:
        error = refusal(template)
        assert error.field == f"pod.template.{field}"
        assert error.why.startswith(f"{number!r} is no number of JSON; ")


def test_labels_and_annotations_with_another_prefix_are_free() -> None:
    struct = Struct()
    struct.update({"metadata": {"labels": {"a": "b", "c": "d"}, "annotations": {"e.f/g": "h"}}})
    check_pod(job_pb2.PodOptions(template=struct), "pod")


def test_other_containers_are_free() -> None:
    struct = Struct()
    struct.update({"spec": {"containers": [{"name": "side", "command": ["sh"], "args": ["-c"]}]}})
    check_pod(job_pb2.PodOptions(template=struct), "pod")
