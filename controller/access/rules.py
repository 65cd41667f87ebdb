"""Which call needs which right: one table, and a test that no call is missing. Pure.

The verbs are those of the cluster's own RBAC on the resource `trainingjobs`, so that whoever may
do a thing with kubectl may do it here, and nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from controller import parse_names
from controller.access.callers import Action

LOG = "log"
FILES = "files"
SCALE = "scale"
SOURCE = "source"


class Who(Enum):
    """Who may make a call at all."""

    ANYBODY = "anybody"
    CALLER = "a known caller"
    WORKER = "a worker"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a call asks for. action: None if to be known is enough; else it is made from the
    request, from the first one of a stream, and raises InvalidJob for a name that cannot be.
    transfer: a file goes over it, or its requests come one by one: each may hold megabytes."""

    who: Who
    action: Callable[[Any], Action] | None = None
    transfer: bool = False


def _on_job(field: str, verb: str, subresource: str = "") -> Rule:
    """Return the rule of a call on the job that a field names."""

    def action(request: Any) -> Action:
        key = parse_names.job_name(getattr(request, field), field)
        return Action(verb, key.namespace, key.name, subresource)

    return Rule(Who.CALLER, action)


def _create(request: Any) -> Action:
    return Action("create", parse_names.parent(request.parent, "parent"))


def _list(request: Any) -> Action:
    if request.parent == parse_names.ALL_NAMESPACES:
        return Action("list", "")
    return Action("list", parse_names.parent(request.parent, "parent"))


def _upload(request: Any) -> Action:
    namespace = parse_names.parent(request.header.parent, "header.parent")
    return Action("create", namespace, subresource=SOURCE)


_TRAINING = "/taas.v1.TrainingService/"
RULES: Mapping[str, Rule] = {
    f"{_TRAINING}CreateTrainingJob": Rule(Who.CALLER, _create),
    f"{_TRAINING}GetTrainingJob": _on_job("name", "get"),
    f"{_TRAINING}ListTrainingJobs": Rule(Who.CALLER, _list),
    f"{_TRAINING}WatchTrainingJob": _on_job("name", "watch"),
    f"{_TRAINING}StreamLogs": _on_job("name", "get", LOG),
    f"{_TRAINING}ScaleTrainingJob": _on_job("name", "update", SCALE),
    f"{_TRAINING}SuspendTrainingJob": _on_job("name", "update"),
    f"{_TRAINING}ResumeTrainingJob": _on_job("name", "update"),
    f"{_TRAINING}CancelTrainingJob": _on_job("name", "update"),
    f"{_TRAINING}DeleteTrainingJob": _on_job("name", "delete"),
    f"{_TRAINING}ListCheckpoints": _on_job("parent", "get", FILES),
    f"{_TRAINING}ListFiles": _on_job("parent", "get", FILES),
    f"{_TRAINING}DownloadFile": replace(_on_job("parent", "get", FILES), transfer=True),
    f"{_TRAINING}UploadSource": Rule(Who.CALLER, _upload, transfer=True),
    f"{_TRAINING}GetServiceInfo": Rule(Who.CALLER),
    "/taas.v1.WorkerService/Connect": Rule(Who.WORKER),
    # Load balancers know no token. A stream that lasts is another matter.
    "/grpc.health.v1.Health/Check": Rule(Who.ANYBODY),
    "/grpc.health.v1.Health/List": Rule(Who.CALLER),
    "/grpc.health.v1.Health/Watch": Rule(Who.CALLER),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(
        Who.CALLER, transfer=True
    ),
}
