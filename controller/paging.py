"""Page tokens of list calls: opaque, and good only for the filter they were made for. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from controller.errors import InvalidJob
from controller.ports import ListFilter

Place = tuple[str, ...]  # where a job stands in an order by texts


def token(position: int | Place, wanted: ListFilter) -> str:
    """Return the token of the page after the job with that number, or at that place."""
    text = json.dumps([position, _fingerprint(wanted)])
    return base64.urlsafe_b64encode(text.encode()).decode()


def position(text: str, wanted: ListFilter) -> int | None:
    """Return the number a page begins after, None for the first page. Raises InvalidJob."""
    if not text:
        return None
    match _decoded(text, wanted):
        case int(number) if 0 < number < 2**63:
            return number
        case _:
            raise _foreign(text)


def place(text: str, wanted: ListFilter) -> Place | None:
    """Return the place a page begins after, None for the first page. Raises InvalidJob."""
    if not text:
        return None
    match _decoded(text, wanted):
        case [*parts] if all(isinstance(part, str) for part in parts):
            return tuple(str(part) for part in parts)
        case _:
            raise _foreign(text)


def _decoded(text: str, wanted: ListFilter) -> object:
    """Return what a token holds. Raises InvalidJob, also for one of another filter."""
    try:
        decoded = json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        decoded = None
    match decoded:
        case [held, str(fingerprint)]:
            if fingerprint == _fingerprint(wanted):
                return held
            raise InvalidJob(
                "pageToken", "belongs to a call with another filter; start without a token"
            )
        case _:
            raise _foreign(text)


def _foreign(text: str) -> InvalidJob:
    return InvalidJob(
        "pageToken", f"{text[:80]!r} was not given out by this service; start without a token"
    )


def _fingerprint(wanted: ListFilter) -> str:
    text = repr((wanted.namespace, sorted(wanted.phases), wanted.labels, wanted.name_prefix))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
