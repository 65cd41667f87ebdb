"""What the API server's refusals mean to the controller. Pure."""

from __future__ import annotations

import json
from typing import Any

from controller.errors import ClusterRefused, ClusterUnavailable, Conflict, TaasError

_MOST_CHARS = 600


class Missing(ClusterUnavailable):
    """The object is not there."""


class Taken(ClusterUnavailable):
    """An object of that name is there already."""


class Expired(ClusterUnavailable):
    """The server does not remember that far back; list again."""


class Rejected(ClusterRefused):
    """The object breaks the rules of its kind; `field` is the first field that does, or ""."""

    def __init__(self, why: str, field: str, cause: str) -> None:
        super().__init__(why)
        self.field = field
        self.cause = cause


def error_of(status: int, body: bytes, retry_after_s: float | None, what: str) -> TaasError:
    """Return the error that an answer with a status of 300 or more is."""
    reply = _status_object(body)
    said = str(reply.get("message") or body[:200].decode(errors="replace") or "no reason given")
    text = f"{what}: {said[:_MOST_CHARS]}"
    if status == 404:
        # While it starts, a server does not know the paths of custom resources yet.
        if reply:
            return Missing(text)
        return ClusterUnavailable(f"{text}; is the custom resource installed?")
    if status == 409:
        return Taken(text) if reply.get("reason") == "AlreadyExists" else Conflict(text)
    if status == 410:
        return Expired(text)
    if status == 422:
        return _rejected(text, reply)
    if status in (400, 403, 405, 406, 413, 415):
        return ClusterRefused(said[:_MOST_CHARS])
    if status == 401:
        text = f"{what}: the API server does not accept the controller's credentials ({said[:200]})"
    return ClusterUnavailable(text, retry_after_s=retry_after_s or 1.0)


def _status_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def _rejected(text: str, reply: dict[str, Any]) -> Rejected:
    details = reply.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    first = causes[0] if isinstance(causes, list) and causes else {}
    said = str(reply.get("message") or text)[:_MOST_CHARS]
    return Rejected(said, str(first.get("field", "")), str(first.get("message") or said))
