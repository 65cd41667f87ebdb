"""What users may ask of their pods. Pure; every refusal is an InvalidJob.

Whether the cluster has such nodes, classes and quotas is for the cluster to say.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct, Value

from controller import overlay
from controller.errors import InvalidJob
from controller.model import DEFAULT_GPU
from controller.parse_names import shown
from controller.parse_values import check_dns_name, check_labels, check_range
from protos.taas.v1 import job_pb2
from trainer.contract import is_reserved

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
MOST_IMAGE_CHARS = 512
MOST_GPUS = 128
MOST_RESOURCES = 32
MOST_RESOURCE_CHARS = 128
MOST_QUANTITY_CHARS = 32
MOST_NODE_LABELS = 32
MOST_TEMPLATE_BYTES = 64 * 1024

IMAGE = r"[!-~]*"
# Of a quantity of Kubernetes, without the signs, which nobody needs here.
QUANTITY = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][0-9]+)?"
EXTENDED_RESOURCE = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
RESOURCE = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"

_WORKER = "worker"
_LABEL_PREFIX = "taas.dev/"
# What the service sets, and where the user has a say in it.
_OWN_POD_FIELDS = {
    "restartPolicy": "workers are restarted by the service",
    "terminationGracePeriodSeconds": "set spec.graceSeconds",
    "containers": "name the container to change",
}
_OWN_CONTAINER_FIELDS = {
    "command": "the agent has to be process 1; set task.module",
    "args": "the agent has to be process 1; set parameters",
    "env": "name the variable to change",
}


def check_pod(pod: job_pb2.PodOptions, field: str) -> None:
    """Check what a job asks of its pods. Raises InvalidJob."""
    if len(pod.image) > MOST_IMAGE_CHARS or not re.fullmatch(IMAGE, pod.image):
        raise InvalidJob(
            f"{field}.image",
            f"{shown(pod.image)} is no image; use at most {MOST_IMAGE_CHARS} printable ASCII "
            "characters without spaces, for example registry.example.com/team/trainer:1",
        )
    if pod.image_pull_policy and pod.image_pull_policy not in PULL_POLICIES:
        raise InvalidJob(
            f"{field}.imagePullPolicy",
            f"{shown(pod.image_pull_policy)} is unknown; set one of {', '.join(PULL_POLICIES)}",
        )
    _check_resources(pod, field)
    if len(pod.node_selector) > MOST_NODE_LABELS:
        raise InvalidJob(
            f"{field}.nodeSelector",
            f"has {len(pod.node_selector)} entries; set at most {MOST_NODE_LABELS}",
        )
    check_labels(pod.node_selector, f"{field}.nodeSelector")
    check_dns_name(pod.priority_class_name, f"{field}.priorityClassName", "PriorityClass")
    check_dns_name(pod.service_account_name, f"{field}.serviceAccountName", "ServiceAccount")
    _check_numbers(pod.template, f"{field}.template")
    _check_template(json_format.MessageToDict(pod.template), f"{field}.template")


def _check_resources(pod: job_pb2.PodOptions, field: str) -> None:
    _check_quantities(pod.requests, f"{field}.requests")
    _check_quantities(pod.limits, f"{field}.limits")
    check_range(pod.gpus, f"{field}.gpus", 0, MOST_GPUS)
    resource = pod.gpu_resource or DEFAULT_GPU
    if len(resource) > MOST_RESOURCE_CHARS or not re.fullmatch(EXTENDED_RESOURCE, resource):
        raise InvalidJob(
            f"{field}.gpuResource",
            f"{shown(resource)} is no extended resource; write DOMAIN/NAME, for example "
            f"{DEFAULT_GPU}",
        )
    for name, quantities in (("requests", pod.requests), ("limits", pod.limits)):
        if pod.gpus and quantities.get(resource, str(pod.gpus)) != str(pod.gpus):
            raise InvalidJob(
                f"{field}.{name}",
                f"has {shown(quantities[resource])} of {resource}, but gpus is {pod.gpus}; "
                "set gpus alone",
            )


def _check_quantities(quantities: Mapping[str, str], field: str) -> None:
    if len(quantities) > MOST_RESOURCES:
        raise InvalidJob(field, f"has {len(quantities)} entries; set at most {MOST_RESOURCES}")
    for name, quantity in sorted(quantities.items()):
        if len(name) > MOST_RESOURCE_CHARS or not re.fullmatch(RESOURCE, name):
            raise InvalidJob(
                field,
                f"{shown(name)} cannot name a resource; write for example cpu, memory or "
                f"{DEFAULT_GPU}",
            )
        if len(quantity) > MOST_QUANTITY_CHARS or not re.fullmatch(QUANTITY, quantity):
            raise InvalidJob(
                f"{field}[{shown(name)}]",
                f"{shown(quantity)} is no quantity; write for example '2', '500m' or '4Gi'",
            )


def _check_numbers(struct: Struct, field: str) -> None:
    """Refuse what a Struct can hold and JSON cannot."""
    for name, value in sorted(struct.fields.items()):
        _check_number(value, f"{field}.{name}")


def _check_number(value: Value, field: str) -> None:
    match value.WhichOneof("kind"):
        case "number_value" if not math.isfinite(value.number_value):
            raise InvalidJob(
                field,
                f"{value.number_value!r} is no number of JSON; write a finite one, or a text in "
                "quotes",
            )
        case "struct_value":
            _check_numbers(value.struct_value, field)
        case "list_value":
            for i, item in enumerate(value.list_value.values):
                _check_number(item, f"{field}[{i}]")


def _check_template(template: Mapping[str, Any], field: str) -> None:
    """Refuse a template that would change what the service needs, or is none at all. The API
    server judges the rest when the pod is made of it."""
    size = len(json.dumps(template))
    if size > MOST_TEMPLATE_BYTES:
        raise InvalidJob(field, f"has {size} bytes as JSON; use at most {MOST_TEMPLATE_BYTES}")
    _check_keys(template, field, ("metadata", "spec"))
    metadata = _map(template.get("metadata"), f"{field}.metadata")
    _check_keys(metadata, f"{field}.metadata", ("labels", "annotations"))
    for part in ("labels", "annotations"):
        for key in _map(metadata.get(part), f"{field}.metadata.{part}"):
            if key.startswith(_LABEL_PREFIX):
                raise InvalidJob(
                    f"{field}.metadata.{part}",
                    f"{shown(key)} belongs to the service; choose another prefix",
                )
    spec = _map(template.get("spec"), f"{field}.spec")
    _check_lists(spec, f"{field}.spec")
    _check_own(spec, f"{field}.spec", _OWN_POD_FIELDS)
    for i, container in enumerate(spec.get("containers", ())):
        if container["name"] == _WORKER:
            _check_worker(container, f"{field}.spec.containers[{i}]")


def _check_worker(container: Mapping[str, Any], field: str) -> None:
    if overlay.DIRECTIVE in container:
        raise InvalidJob(field, f"the container {_WORKER} cannot be deleted or replaced; change it")
    _check_own(container, field, _OWN_CONTAINER_FIELDS)
    for i, variable in enumerate(container.get("env", ())):
        if is_reserved(str(variable["name"])):
            raise InvalidJob(
                f"{field}.env[{i}].name",
                f"{variable['name']} is set by the service for every worker; choose another name",
            )


def _check_own(part: Mapping[str, Any], field: str, own: Mapping[str, str]) -> None:
    for name, remedy in own.items():
        # Of lists that are merged, items may be added.
        if name in part and not isinstance(part[name], list):
            raise InvalidJob(f"{field}.{name}", f"belongs to the service; {remedy}")
        if name in part and name not in overlay.MERGE_KEYS:
            raise InvalidJob(f"{field}.{name}", f"belongs to the service; {remedy}")


def _check_lists(value: Any, field: str) -> None:
    """Refuse an item without the key by which Kubernetes would merge it."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_lists(item, f"{field}[{i}]")
    if not isinstance(value, Mapping):
        return
    for name, inner in value.items():
        key = overlay.MERGE_KEYS.get(name)
        for i, item in enumerate(inner if key and isinstance(inner, list) else ()):
            if not isinstance(item, Mapping) or item.get(str(key)) is None:
                raise InvalidJob(
                    f"{field}.{name}[{i}]", f"has no {key}, by which it is merged; set {key}"
                )
        _check_lists(inner, f"{field}.{name}")


def _check_keys(part: Mapping[str, Any], field: str, known: tuple[str, ...]) -> None:
    for name in part:
        if name not in known:
            raise InvalidJob(
                f"{field}.{name}", f"cannot be set; a template has {' and '.join(known)}"
            )


def _map(value: Any, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidJob(field, f"{shown(value)} is no map; write key: value")
    return value
