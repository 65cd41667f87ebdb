"""The Pod object of Kubernetes -> model.PodSeen. Pure.

The reason and the message are those a person would look for: why it waits, why it failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controller.model import JobKey, PodPhase, PodSeen, Reason
from controller.render import LABEL_JOB, LABEL_JOB_UID, LABEL_WORKER

Document = dict[str, Any]

_MOST_MESSAGE_CHARS = 1000
# A container that waits for these is on its way.
_ORDINARY_WAITS = frozenset({"ContainerCreating", "PodInitializing"})
# How the kubelet says that a pod went beyond a limit of its own; a node that is short of disk is
# told of in other words, and is not the program's fault.
_OWN_DISK_LIMIT = re.compile(
    r"Pod ephemeral local storage usage exceeds|exceeded its local ephemeral storage limit"
    r"|Usage of EmptyDir volume"
)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of a job. `ends_within_s` is the grace it was given, None if it is not deleted."""

    job: JobKey
    job_uid: str
    seen: PodSeen
    ends_within_s: int | None


def path(namespace: str, name: str = "") -> str:
    """Return the path of a namespace's pods, or of one of them."""
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


def read(document: Document) -> Pod | None:
    """Read a Pod object; None if it is no worker of a job."""
    metadata, status = document["metadata"], document.get("status") or {}
    labels = metadata.get("labels") or {}
    index, job = labels.get(LABEL_WORKER, ""), labels.get(LABEL_JOB, "")
    if not index.isdecimal() or not job:
        return None
    phase = _phase(status)
    reason, message = _why(document, phase)
    deleting = "deletionTimestamp" in metadata
    seen = PodSeen(
        index=int(index),
        name=metadata["name"],
        uid=metadata["uid"],
        phase=phase,
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        reason=reason,
        message=message[:_MOST_MESSAGE_CHARS],
        deleting=deleting,
    )
    grace_s = int(metadata.get("deletionGracePeriodSeconds") or 0) if deleting else None
    return Pod(JobKey(metadata["namespace"], job), labels.get(LABEL_JOB_UID, ""), seen, grace_s)


def _phase(status: Document) -> PodPhase:
    """Return the phase. "Unknown" is a pod that ran when its node was last heard of."""
    if status.get("phase") == "Unknown":
        return PodPhase.RUNNING
    return PodPhase(status.get("phase") or "Pending")


def _why(document: Document, phase: PodPhase) -> tuple[str, str]:
    """Return reason and message of a pod's state, "" when there is nothing to say."""
    status = document.get("status") or {}
    if phase is PodPhase.PENDING:
        return _waits(status)
    if phase is PodPhase.RUNNING:
        return _out_of_reach(document)
    if phase is PodPhase.SUCCEEDED:
        return "Completed", ""
    return _failed(status)


def _waits(status: Document) -> tuple[str, str]:
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        return scheduled.get("reason") or "Unschedulable", scheduled.get("message") or ""
    for container in _containers(status):
        waiting = container.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason") or ""
        if reason and reason not in _ORDINARY_WAITS:
            return reason, waiting.get("message") or f"container {container.get('name')} waits"
    return "", ""


def node_lost(document: Document) -> bool:
    """Say whether a running pod's node has fallen silent."""
    return bool(_out_of_reach(document)[0])


def _out_of_reach(document: Document) -> tuple[str, str]:
    """Tell a running pod whose node has fallen silent: the cluster then calls the pod unready
    although its containers were ready."""
    status = document.get("status") or {}
    unready = _condition(status, "Ready").get("status") in ("False", "Unknown")
    were_ready = _condition(status, "ContainersReady").get("status") == "True"
    gated = (document.get("spec") or {}).get("readinessGates")
    if status.get("phase") == "Unknown" or (unready and were_ready and not gated):
        node = (document.get("spec") or {}).get("nodeName") or "its node"
        return "NodeLost", f"{node} is not ready"
    return "", ""


def _failed(status: Document) -> tuple[str, str]:
    """Tell why a pod failed: what befell the pod, or else how its container ended."""
    if status.get("reason"):
        reason, message = status["reason"], (status.get("message") or "").strip()
        beyond = reason == "Evicted" and _OWN_DISK_LIMIT.search(message)
        return (Reason.OUT_OF_DISK if beyond else reason), message
    disrupted = _condition(status, "DisruptionTarget")
    if disrupted.get("status") == "True":
        return disrupted.get("reason") or "Disrupted", disrupted.get("message") or ""
    for container in _containers(status):
        ended = container.get("state", {}).get("terminated") or {}
        if ended.get("exitCode") or ended.get("reason") == "OOMKilled":
            said = (ended.get("message") or "").strip()
            code = f"exit code {ended.get('exitCode', 0)}"
            return ended.get("reason") or "Error", f"{code}: {said}" if said else code
    return "Error", status.get("message") or "the pod failed without a word"


def _condition(status: Document, kind: str) -> Document:
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind:
            return dict(condition)
    return {}


def _containers(status: Document) -> Iterator[Document]:
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def trouble(document: Document) -> str:
    """Return why any pod, a job's or not, is not running as it should, "" if nothing is known."""
    reason, message = _why(document, _phase(document.get("status") or {}))
    return ": ".join(part for part in (reason, message[:_MOST_MESSAGE_CHARS]) if part)
