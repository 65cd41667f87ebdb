"""The names that users write: jobs, namespaces and claims. Pure; every refusal is an InvalidJob."""

from __future__ import annotations

import re
import unicodedata

from controller.errors import InvalidJob
from controller.model import DEFAULT_CLAIM, JobKey

# Kubernetes' own limit.
_MOST_NAMESPACE_CHARS = 63
# A pod's name is a DNS label of 63 characters: this many, a hyphen and a worker index.
MOST_JOB_CHARS = 52
# Kubernetes' own limit.
_MOST_CLAIM_CHARS = 253

# The parent of a list over all namespaces.
ALL_NAMESPACES = "namespaces/-"

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def job_name(name: str, field: str) -> JobKey:
    """Parse the resource name of a job. Raises InvalidJob."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "namespaces" or parts[2] != "trainingJobs":
        example = _suggestion(parts[-1], MOST_JOB_CHARS) or "mnist"
        raise InvalidJob(
            field,
            f"{shown(name)} does not name a job; write namespaces/NAMESPACE/trainingJobs/ID, "
            f"for example namespaces/default/trainingJobs/{example}",
        )
    return JobKey(_namespace(parts[1], field), job_id(parts[3], field))


def parent(text: str, field: str) -> str:
    """Parse the resource name of a namespace and return the namespace. Raises InvalidJob."""
    prefix, _, namespace = text.partition("/")
    if prefix != "namespaces" or not namespace:
        raise InvalidJob(
            field,
            f"{shown(text)} does not name a namespace; write namespaces/NAMESPACE, "
            "for example namespaces/default",
        )
    if text == ALL_NAMESPACES:
        raise InvalidJob(
            field, f"{shown(text)} stands for all namespaces, which only a list can use; name one"
        )
    return _namespace(namespace, field)


def _namespace(text: str, field: str) -> str:
    return _dns_label(text, field, what="namespace", most=_MOST_NAMESPACE_CHARS)


def job_id(text: str, field: str) -> str:
    """Return the id of a job unless it is not valid. Raises InvalidJob."""
    return _dns_label(text, field, what="job id", most=MOST_JOB_CHARS)


def claim(text: str, field: str) -> str:
    """Return the name of a claim unless it is not valid; "" is the default. Raises InvalidJob."""
    if not text:
        return DEFAULT_CLAIM
    if len(text) <= _MOST_CLAIM_CHARS and all(map(DNS_LABEL.fullmatch, text.split("."))):
        return text
    raise InvalidJob(
        field,
        f"{shown(text)} is not the name of a PersistentVolumeClaim; use a-z, 0-9, '-' and '.', "
        f"or leave it out for {DEFAULT_CLAIM}",
    )


def _dns_label(text: str, field: str, *, what: str, most: int) -> str:
    if len(text) <= most and DNS_LABEL.fullmatch(text):
        return text
    better = _suggestion(text, most)
    raise InvalidJob(
        field,
        f"{shown(text)} is not a valid {what}; use 1 to {most} of a-z, 0-9 and '-', beginning "
        f"and ending with a letter or digit{f': try {better!r}' if better else ''}",
    )


def _suggestion(text: str, most: int) -> str:
    """Return the valid name nearest to a text, "" when nothing of it is left."""
    plain = unicodedata.normalize("NFKD", text[:256]).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:most].rstrip("-")


def shown(value: object) -> str:
    """Return a value for an error's text, cut so that it cannot fill the log."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
