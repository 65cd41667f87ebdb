"""Times of the domain and of the wire. Pure. Times have microseconds, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from controller.errors import InvalidJob

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
