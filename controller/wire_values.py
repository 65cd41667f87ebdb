"""Times and enums of the domain and of the wire. Pure. Times have microseconds, in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import TypeVar

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from controller.errors import InvalidJob

_E = TypeVar("_E", bound=Enum)

# As old as can be: what a message without a time has.
EPOCH = datetime.fromtimestamp(0, UTC)


def stamp(time: datetime | None) -> Timestamp | None:
    """Return a time as a wire message; None is an unset field."""
    if time is None:
        return None
    made = Timestamp()
    made.FromDatetime(time)
    return made


def moment(message: Message, field: str) -> datetime | None:
    """Return a Timestamp field as an aware time, None when it is unset. Raises InvalidJob."""
    if not message.HasField(field):
        return None
    value: Timestamp = getattr(message, field)
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidJob(field, f"is no time: {error}; send seconds and nanos in range") from error


def by_number(kind: type[_E], wire: EnumDescriptor, prefix: str) -> dict[int, _E]:
    """Return the domain's members by the number of their namesake in a wire enum."""
    return {wire.values_by_name[prefix + member.value].number: member for member in kind}


def member(members: Mapping[int, _E], number: int, field: str) -> _E:
    """Return the domain's member for a wire enum's number. Raises InvalidJob."""
    try:
        return members[number]
    except KeyError:
        known = ", ".join(f"{n} ({m.value})" for n, m in members.items())
        raise InvalidJob(field, f"{number} is not known; send one of {known}") from None
