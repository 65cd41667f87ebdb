"""Proto JSON that may have been written by anybody -> messages. Pure."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

_M = TypeVar("_M", bound=Message)
# protobuf's own, nesting without end, half a surrogate pair in the name of a field, an infinite
# number in place of an enum's, and what the library makes of other types than it expects.
_UNFIT = (
    json_format.ParseError,
    RecursionError,
    SystemError,
    OverflowError,
    TypeError,
    AttributeError,
    KeyError,
)


def filled(document: object, message: _M) -> _M:
    """Return the message with what an object says, unknown fields passed over. Raises ValueError
    for whatever does not fit."""
    if not isinstance(document, dict):
        raise ValueError(f"no JSON object: {str(document)[:80]}")
    try:
        return json_format.ParseDict(document, message, ignore_unknown_fields=True)
    except _UNFIT as error:
        raise ValueError(str(error)[:300]) from error
