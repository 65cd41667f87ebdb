"""Names of jobs as people write them and as the service wants them, and words for enums. Pure."""

from __future__ import annotations

import re

from protos.taas.v1.job_pb2 import (
    PHASE_CANCELLED,
    PHASE_FAILED,
    PHASE_SUCCEEDED,
    Phase,
    WorkerState,
)
from taas.errors import InvalidRequest

# The service allows this much, because pod names are made from it.
MAX_JOB_ID = 52
_RESOURCE = re.compile(r"namespaces/([^/]+)/trainingJobs/([^/]+)")


def resource_name(text: str, namespace: str) -> str:
    """Return the resource name for "name", "namespace/name" or a resource name.

    Whether the parts are legal is for the service to say; the form is checked here.
    """
    if _RESOURCE.fullmatch(text):
        return text
    parts = text.split("/")
    if len(parts) > 2 or not all(parts):
        raise InvalidRequest.of("name", f"{text!r} is not a job; write NAME or NAMESPACE/NAME")
    space, job = parts if len(parts) == 2 else (namespace, parts[0])
    return f"namespaces/{space}/trainingJobs/{job}"


def split_name(name: str) -> tuple[str, str]:
    """Return (namespace, id) of a resource name."""
    match = _RESOURCE.fullmatch(name)
    if match is None:
        raise InvalidRequest.of("name", f"{name!r} is not namespaces/NAMESPACE/trainingJobs/NAME")
    return match[1], match[2]


def short_name(name: str, namespace: str = "default") -> str:
    """Return what a person types for a resource name while that namespace is the current one."""
    space, job = split_name(name)
    return job if space == namespace else f"{space}/{job}"


def job_id_from(text: str) -> str:
    """Return a legal job id that resembles the text, for example a folder's name."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower())[:MAX_JOB_ID].strip("-")
    return slug or "job"


def numbered_id(job_id: str, number: int) -> str:
    """Return the number-th variant of an id: the id itself, then id-2, id-3, ..."""
    if number <= 1:
        return job_id
    suffix = f"-{number}"
    return job_id[: MAX_JOB_ID - len(suffix)].rstrip("-") + suffix


def is_final(phase: Phase) -> bool:
    """Say whether a job in this phase never changes again."""
    return phase in (PHASE_SUCCEEDED, PHASE_FAILED, PHASE_CANCELLED)


def phase_name(phase: Phase) -> str:
    """Return the phase as one word, for example "RUNNING"; unknown ones as their number."""
    return _enum_word(Phase, phase, "PHASE_")


def worker_state_name(state: WorkerState) -> str:
    """Return the worker's state as one word, for example "READY"."""
    return _enum_word(WorkerState, state, "WORKER_STATE_")


def _enum_word(kind: type[Phase] | type[WorkerState], value: int, prefix: str) -> str:
    try:
        return kind.Name(value).removeprefix(prefix)
    except ValueError:  # a newer service
        return str(value)
