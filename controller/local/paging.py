"""Page tokens of list calls: opaque, and good only for the filter they were made for. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from controller.errors import InvalidJob
from controller.ports import ListFilter


def token(position: int, wanted: ListFilter) -> str:
    """Return the token of the page after the job with that number."""
    text = json.dumps([position, _fingerprint(wanted)])
    return base64.urlsafe_b64encode(text.encode()).decode()


def position(text: str, wanted: ListFilter) -> int | None:
    """Return the number a page begins after, None for the first page. Raises InvalidJob."""
    if not text:
        return None
    try:
        decoded = json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        decoded = None
    match decoded:
        case [int(number), str(fingerprint)] if 0 < number < 2**63:
            if fingerprint == _fingerprint(wanted):
                return number
            raise InvalidJob(
                "pageToken", "belongs to a call with another filter; start without a token"
            )
        case _:
            raise InvalidJob(
                "pageToken",
                f"{text[:80]!r} was not given out by this service; start without a token",
            )


def _fingerprint(wanted: ListFilter) -> str:
    text = repr((wanted.namespace, sorted(wanted.phases), wanted.labels, wanted.name_prefix))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
