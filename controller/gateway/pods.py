"""The pod and the secret of a storage gateway as Kubernetes manifests. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.render import LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY, STORAGE_PATH, TOKEN_FOLDER
from controller.restricted import restricted

NAME = "taas-gateway"
# On label and annotation alike: the claim that the gateway serves. A label is at most 63
# characters long, a claim's name up to 253, so only the annotation always has the whole of it.
CLAIM_KEY = "taas.dev/claim"
# Changes with everything in the manifest: a pod with another one is from another installation or
# an older version, and is to be replaced.
LABEL_REVISION = "taas.dev/revision"
# Finds the pods and the secrets of all gateways.
SELECTOR = f"{LABEL_NAME}={NAME},{LABEL_MANAGED_BY}={MANAGED_BY}"

PORT = 8471
# Of the probes: kubelets speak no TLS.
HEALTH_PORT = 8472
TOKEN_KEY = "token"
CERTIFICATE_KEY = "tls.crt"
PRIVATE_KEY = "tls.key"
AUTHORITY_KEY = "ca.crt"
_MOST_LABEL_CHARS = 63
# Longer than the gateway gives its calls when it is told to stop.
_GRACE_S = 5


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What gateways of this installation have in common.

    image: that of the controller. Requests and limits are Kubernetes quantities.
    """

    image: str
    requests: tuple[tuple[str, str], ...] = (("cpu", "20m"), ("memory", "96Mi"))
    limits: tuple[tuple[str, str], ...] = (("cpu", "1"), ("memory", "512Mi"))


def gateway_name(claim: str) -> str:
    """Return the name of a claim's gateway and of its secret, in the namespace of the claim."""
    return f"{NAME}-{hashlib.sha256(claim.encode()).hexdigest()[:10]}"


def gateway_address(pod_ip: str) -> str:
    """Return where the gateway in a pod listens."""
    return f"[{pod_ip}]:{PORT}" if ":" in pod_ip else f"{pod_ip}:{PORT}"


def render_secret(namespace: str, claim: str, content: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the manifest of the secret that holds a gateway's token and certificate, by the
    names of their keys."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(namespace, claim),
        "type": "Opaque",
        "immutable": True,
        "data": {key: base64.b64encode(value).decode() for key, value in content.items()},
    }


def render_gateway(
    namespace: str, claim: str, settings: GatewaySettings, secret_uid: str
) -> dict[str, Any]:
    """Return the manifest of a gateway's pod. It belongs to the secret of that uid, so that the
    cluster removes it when the secret goes. Restricted by the Pod Security Standard."""
    metadata = _metadata(namespace, claim)
    spec = _spec(claim, settings)
    metadata["labels"][LABEL_REVISION] = revision(claim, settings)
    metadata["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Secret", "name": metadata["name"], "uid": secret_uid}
    ]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def revision(claim: str, settings: GatewaySettings) -> str:
    """Return the value of LABEL_REVISION on a pod that is as it should be."""
    text = json.dumps(_spec(claim, settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _metadata(namespace: str, claim: str) -> dict[str, Any]:
    labels = {LABEL_NAME: NAME, LABEL_MANAGED_BY: MANAGED_BY}
    if len(claim) <= _MOST_LABEL_CHARS:
        labels[CLAIM_KEY] = claim
    return {
        "name": gateway_name(claim),
        "namespace": namespace,
        "labels": labels,
        "annotations": {CLAIM_KEY: claim},
    }


def _spec(claim: str, settings: GatewaySettings) -> dict[str, Any]:
    return restricted(
        {
            # The pool makes another one at once; a restart in place would wait longer and longer.
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": _GRACE_S,
            "containers": [_container(settings)],
            "volumes": [
                {"name": "storage", "persistentVolumeClaim": {"claimName": claim}},
                {
                    "name": "token",
                    "secret": {"secretName": gateway_name(claim), "defaultMode": 0o440},
                },
                {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            ],
        }
    )


def _container(settings: GatewaySettings) -> dict[str, Any]:
    return {
        "name": "gateway",
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "controller.gateway"],
        "args": [
            f"--root={STORAGE_PATH}",
            # All addresses of the pod; without IPv6 this is those of IPv4.
            f"--listen=[::]:{PORT}",
            f"--health=[::]:{HEALTH_PORT}",
            f"--token-file={TOKEN_FOLDER}/{TOKEN_KEY}",
            f"--certificate={TOKEN_FOLDER}/{CERTIFICATE_KEY}",
            f"--key={TOKEN_FOLDER}/{PRIVATE_KEY}",
        ],
        "ports": [
            {"name": "grpc", "containerPort": PORT},
            {"name": "health", "containerPort": HEALTH_PORT},
        ],
        "readinessProbe": {
            "grpc": {"port": HEALTH_PORT},
            # A gateway that is waited for is found ready soon after it is.
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        "resources": {"requests": dict(settings.requests), "limits": dict(settings.limits)},
        "volumeMounts": [
            {"name": "storage", "mountPath": STORAGE_PATH},
            {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
