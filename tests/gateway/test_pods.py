"""The gateway's pod and secret as Kubernetes gets them."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from controller.gateway.__main__ import parse
from controller.gateway.pods import (
    CLAIM_KEY,
    LABEL_REVISION,
    GatewaySettings,
    gateway_address,
    gateway_name,
    render_gateway,
    render_secret,
    revision,
)

SETTINGS = GatewaySettings(image="registry/taas-controller:1")
POD = render_gateway("team-a", "taas-storage", SETTINGS, "secret-uid")
SECRET = render_secret("team-a", "taas-storage", {"token": b"the token", "tls.key": b"the key"})
LONG = "c" * 200


def test_the_secret_holds_the_token() -> None:
    assert base64.b64decode(SECRET["data"]["token"]) == b"the token"
    assert base64.b64decode(SECRET["data"]["tls.key"]) == b"the key"
    assert SECRET["metadata"]["name"] == gateway_name("taas-storage")
    assert SECRET["metadata"]["namespace"] == "team-a"


def test_the_token_is_nowhere_in_the_pod() -> None:
    assert "the token" not in json.dumps(POD)
    assert "the key" not in json.dumps(POD)


def test_the_pod_mounts_the_claim_and_the_secret() -> None:
    spec = POD["spec"]
    claim, token, _ = spec["volumes"]
    assert claim["persistentVolumeClaim"] == {"claimName": "taas-storage"}
    assert token["secret"]["secretName"] == SECRET["metadata"]["name"]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts == {"storage": "/taas/storage", "token": "/taas/token", "tmp": "/tmp"}


def test_the_pod_goes_with_its_secret() -> None:
    assert POD["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "name": SECRET["metadata"]["name"],
            "uid": "secret-uid",
        }
    ]


def test_the_command_is_one_that_the_gateway_understands() -> None:
    (container,) = POD["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "controller.gateway"]
    options = parse(container["args"])
    assert (options.root, options.token_file) == (Path("/taas/storage"), Path("/taas/token/token"))
    port = int(options.listen.rpartition(":")[2])
    assert container["ports"][0]["containerPort"] == port
    assert options.certificate == Path("/taas/token/tls.crt")
    assert options.key == Path("/taas/token/tls.key")
    probed = int(options.health.rpartition(":")[2])
    assert container["readinessProbe"]["grpc"]["port"] == probed


def test_the_pod_is_restricted() -> None:
    spec = POD["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    assert set(container["resources"]) == {"requests", "limits"}


def test_claims_have_names_of_their_own() -> None:
    names = {gateway_name(claim) for claim in ("a", "b", "taas-storage", LONG)}
    assert len(names) == 4
    assert all(len(name) <= 63 for name in names)


def test_a_long_claim_is_in_the_annotation_only() -> None:
    metadata = render_gateway("team-a", LONG, SETTINGS, "uid")["metadata"]
    assert metadata["annotations"][CLAIM_KEY] == LONG
    assert CLAIM_KEY not in metadata["labels"]
    assert POD["metadata"]["labels"][CLAIM_KEY] == "taas-storage"
    assert POD["metadata"]["annotations"][CLAIM_KEY] == "taas-storage"


@pytest.mark.parametrize(
    "change",
    [
        {"image": "registry/taas-controller:2"},
        {"limits": (("memory", "1Gi"),)},
    ],
)
def test_every_change_is_another_revision(change: dict[str, object]) -> None:
    labels = POD["metadata"]["labels"]
    assert labels[LABEL_REVISION] == revision("taas-storage", SETTINGS)
    assert labels[LABEL_REVISION] != revision("taas-storage", replace(SETTINGS, **change))


@pytest.mark.parametrize(
    ("ip", "address"), [("10.244.0.7", "10.244.0.7:8471"), ("fd00::7", "[fd00::7]:8471")]
)
def test_the_address_of_a_pod(ip: str, address: str) -> None:
    assert gateway_address(ip) == address
