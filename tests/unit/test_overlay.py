"""A template is merged into a pod the way Kubernetes merges a strategic patch."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controller import overlay

WORKER = {
    "name": "worker",
    "image": "a",
    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    "volumeMounts": [{"mountPath": "/tmp", "name": "tmp"}],
}
BASE: dict[str, Any] = {
    "metadata": {"labels": {"x": "1"}},
    "spec": {
        "containers": [WORKER],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "nodeSelector": {"zone": "a"},
    },
}


def merged(**spec: Any) -> dict[str, Any]:
    before = copy.deepcopy(BASE)
    result = overlay.merge(BASE, {"spec": spec})
    assert before == BASE, "the base must not change"
    return dict(result["spec"])


def worker(**changes: Any) -> dict[str, Any]:
    return dict(merged(containers=[{"name": "worker", **changes}])["containers"][0])


@pytest.mark.parametrize(
    ("changes", "key", "expected"),
    [
        pytest.param({"hostname": "h"}, "hostname", "h", id="new value"),
        pytest.param(
            {"nodeSelector": {"gpu": "yes"}}, "nodeSelector", {"zone": "a", "gpu": "yes"}, id="map"
        ),
        pytest.param({"nodeSelector": {"zone": None}}, "nodeSelector", {}, id="null in a map"),
        pytest.param(
            {"nodeSelector": {"$patch": "replace", "gpu": "yes"}},
            "nodeSelector",
            {"gpu": "yes"},
            id="map replaced",
        ),
        pytest.param(
            {"tolerations": [{"key": "spot"}]},
            "tolerations",
            [{"key": "gpu", "operator": "Exists"}, {"key": "spot"}],
            id="tolerations are appended",
        ),
        pytest.param(
            {"tolerations": [{"key": "gpu", "operator": "Exists"}]},
            "tolerations",
            [{"key": "gpu", "operator": "Exists"}],
            id="the same toleration once",
        ),
        pytest.param(
            {"volumes": [{"name": "data"}, {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]},
            "volumes",
            [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "data"}],
            id="volumes by name",
        ),
        pytest.param(
            {"volumes": [{"name": "tmp", "emptyDir": None, "hostPath": {"path": "/x"}}]},
            "volumes",
            [{"name": "tmp", "hostPath": {"path": "/x"}}],
            id="another kind of volume",
        ),
        pytest.param(
            {"readinessGates": [{"conditionType": "x"}]},
            "readinessGates",
            [{"conditionType": "x"}],
            id="a list that is not merged",
        ),
        pytest.param(
            {"nodeSelector": {"$patch": "delete"}}, "nodeSelector", None, id="map deleted"
        ),
        pytest.param(
            {"nodeSelector": {"$patch": "merge", "gpu": "yes"}},
            "nodeSelector",
            {"zone": "a", "gpu": "yes"},
            id="map merged by name",
        ),
        pytest.param({"volumes": None}, "volumes", None, id="null"),
        pytest.param(
            {"initContainers": [{"name": "a", "env": [{"name": "X"}]}]},
            "initContainers",
            [{"name": "a", "env": [{"name": "X"}]}],
            id="a keyed list that was not there",
        ),
        pytest.param(
            {"volumes": [{"$patch": "replace"}, {"name": "data"}]},
            "volumes",
            [{"name": "data"}],
            id="list replaced",
        ),
    ],
)
def test_merging_a_pod(changes: dict[str, Any], key: str, expected: Any) -> None:
    assert merged(**changes).get(key) == expected


def test_another_container_is_appended() -> None:
    containers = merged(containers=[{"name": "side", "image": "b"}])["containers"]
    assert containers == [WORKER, {"name": "side", "image": "b"}]


@pytest.mark.parametrize(
    ("changes", "key", "expected"),
    [
        pytest.param({"image": "b"}, "image", "b", id="value"),
        pytest.param(
            {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
            "env",
            [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "3"},
                {"name": "C", "value": "4"},
            ],
            id="env by name",
        ),
        pytest.param(
            {"env": [{"name": "A", "$patch": "delete"}, {"name": "Z", "$patch": "delete"}]},
            "env",
            [{"name": "B", "value": "2"}],
            id="env deleted",
        ),
        pytest.param(
            {"env": [{"name": "A", "$patch": "replace", "valueFrom": {"x": 1}}]},
            "env",
            [{"name": "A", "valueFrom": {"x": 1}}, {"name": "B", "value": "2"}],
            id="env replaced",
        ),
        pytest.param(
            {"volumeMounts": [{"mountPath": "/tmp", "readOnly": True}, {"mountPath": "/d"}]},
            "volumeMounts",
            [{"mountPath": "/tmp", "name": "tmp", "readOnly": True}, {"mountPath": "/d"}],
            id="volume mounts by path",
        ),
        pytest.param({"args": ["x"]}, "args", ["x"], id="plain list"),
    ],
)
def test_merging_a_container(changes: dict[str, Any], key: str, expected: Any) -> None:
    assert worker(**changes).get(key) == expected


@pytest.mark.parametrize("odd", ["text", 5, ["text", None], {"a": 1}])
def test_what_is_no_list_of_containers_is_left_to_the_api_server(odd: Any) -> None:
    merged(containers=odd)


def test_merging_the_same_again_changes_nothing() -> None:
    patch = {"spec": {"tolerations": [{"key": "spot"}], "containers": [{"name": "worker"}]}}
    once = overlay.merge(BASE, patch)
    assert overlay.merge(once, patch) == once
