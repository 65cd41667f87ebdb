"""Refuses what this version does not know in a request: a client newer than the service would
otherwise believe that it was heard. Pure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from controller.errors import InvalidJob


def checked(request: Any) -> Any:
    """Return a handler's request, a message or a stream of them, after a check or with one of
    each. Raises InvalidJob, a stream when it comes to the message."""
    if isinstance(request, Message):
        refuse_unknown_fields(request)
        return request
    return _each_checked(request)


async def _each_checked(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
    async for request in requests:
        refuse_unknown_fields(request)
        yield request


def refuse_unknown_fields(message: Message, field: str = "") -> None:
    """Raise InvalidJob for a message with a field that this version does not know."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise InvalidJob(
            field or message.DESCRIPTOR.name,
            f"has field number {unknown[0].field_number}, which this service does not know; "
            "upgrade the service, or leave the field out",
        )
    for path, inner in _inner(message, field):
        refuse_unknown_fields(inner, path)


def _inner(message: Message, field: str) -> Iterator[tuple[str, Message]]:
    """Yield the messages inside a message with their paths. Maps are left out: those of the
    requests hold plain values, and unknown fields of an entry do not survive the parsing."""
    for descriptor, value in message.ListFields():
        path = f"{field}.{descriptor.json_name}".lstrip(".")
        kind = descriptor.message_type
        if isinstance(value, Message):
            yield path, value
        elif kind is not None and not kind.GetOptions().map_entry:
            for i, item in enumerate(value):
                yield f"{path}[{i}]", item
