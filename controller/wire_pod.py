"""Converts what a job asks of its pods between the domain and the wire. Pure.

The domain keeps the template as JSON text, because its values are frozen.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from controller.model import PodOptions
from protos.taas.v1 import job_pb2

_DEFAULTS = PodOptions()


def pod_to_wire(pod: PodOptions) -> job_pb2.PodOptions:
    """Return what a job asks of its pods as a wire message."""
    template = json_format.ParseDict(json.loads(pod.template), Struct()) if pod.template else None
    return job_pb2.PodOptions(
        image=pod.image,
        image_pull_policy=pod.image_pull_policy,
        requests=dict(pod.requests),
        limits=dict(pod.limits),
        gpus=pod.gpus,
        gpu_resource=pod.gpu_resource,
        node_selector=dict(pod.node_selector),
        priority_class_name=pod.priority_class_name,
        service_account_name=pod.service_account_name,
        template=template,
    )


def pod_with_defaults(pod: job_pb2.PodOptions) -> PodOptions:
    """Return what a job asks of its pods as the domain has it, defaults filled in."""
    return PodOptions(
        image=pod.image,
        image_pull_policy=pod.image_pull_policy,
        requests=tuple(sorted(pod.requests.items())),
        limits=tuple(sorted(pod.limits.items())),
        gpus=pod.gpus,
        gpu_resource=pod.gpu_resource or _DEFAULTS.gpu_resource,
        node_selector=tuple(sorted(pod.node_selector.items())),
        priority_class_name=pod.priority_class_name,
        service_account_name=pod.service_account_name,
        template=_json(pod.template) if pod.template.fields else "",
    )


def _json(struct: Struct) -> str:
    """Return a Struct as JSON text that is the same for the same content."""
    return json.dumps(_with_whole_numbers(json_format.MessageToDict(struct)), sort_keys=True)


def _with_whole_numbers(value: Any) -> Any:
    """A Struct knows floats only; 8080.0 is no port for Kubernetes, 8080 is."""
    if isinstance(value, dict):
        return {key: _with_whole_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
