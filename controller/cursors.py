"""Positions in a job's history and logs, as the opaque text that clients send back. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from controller.errors import InvalidJob

# Nothing has so many entries, records or bytes; a database and a disk still take the number.
_MOST = 2**53
# Room for the offsets of ten thousand workers.
_MOST_CHARS = 512 * 1024
_REMEDY = "send a cursor that this job's own stream gave, or none to start from the beginning"


@dataclass(frozen=True, slots=True)
class WatchCursor:
    """All that is behind a watcher: event-log entries up to `entry`, all records of generations
    before `generation`, and the first `records` records of that one."""

    uid: str
    entry: int = 0
    generation: int = 0
    records: int = 0

    def encode(self) -> str:
        """Return the cursor as text."""
        return _encoded(self)

    @staticmethod
    def decode(text: str, uid: str) -> WatchCursor:
        """Parse a cursor of the job with that uid. Raises InvalidJob("cursor")."""
        match _decode(text):
            case [str(owner), entry, generation, records] if all(
                map(_is_position, (entry, generation, records))
            ):
                _check_owner(owner, uid)
                return WatchCursor(uid, entry, generation, records)
        raise InvalidJob("cursor", f"{text[:80]!r} is not a watch cursor; {_REMEDY}")


@lru_cache(maxsize=1024)
def _encoded(cursor: WatchCursor) -> str:
    """Return a cursor as text. All watchers of a job are given the same ones at a time."""
    return _encode([cursor.uid, cursor.entry, cursor.generation, cursor.records])


@dataclass(frozen=True, slots=True)
class LogCursor:
    """Bytes of each worker's log that are behind a reader; a worker not named is at 0."""

    uid: str
    offsets: tuple[tuple[int, int], ...] = ()

    def encode(self) -> str:
        """Return the cursor as text."""
        return _encode([self.uid, "log", [list(pair) for pair in self.offsets]])

    @staticmethod
    def decode(text: str, uid: str) -> LogCursor:
        """Parse a cursor of the job with that uid. Raises InvalidJob("cursor")."""
        match _decode(text):
            case [str(owner), "log", list(pairs)]:
                _check_owner(owner, uid)
                offsets = tuple(sorted(_offset(pair, text) for pair in pairs))
                return LogCursor(uid, offsets)
        raise InvalidJob("cursor", f"{text[:80]!r} is not a log cursor; {_REMEDY}")


def _offset(pair: Any, text: str) -> tuple[int, int]:
    match pair:
        case [worker, offset] if _is_position(worker) and _is_position(offset):
            return worker, offset
    raise InvalidJob("cursor", f"{text[:80]!r} is not a log cursor; {_REMEDY}")


def _is_position(value: Any) -> bool:
    """Say whether this counts something; JSON's true is an int to Python, and no number here."""
    return type(value) is int and 0 <= value <= _MOST


def _check_owner(owner: str, uid: str) -> None:
    if owner != uid:
        raise InvalidJob("cursor", f"belongs to another job (uid {owner[:64]!r}); {_REMEDY}")


def _encode(value: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()


def _decode(text: str) -> Any:
    if len(text) > _MOST_CHARS:
        return None
    try:
        return json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
