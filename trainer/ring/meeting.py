"""How the members of a ring find each other, and nobody else gets in.

Every member listens at a port of its own, and tells the others where and by which token over a
board that only the members of the generation can read. The member before it connects and shows the
token, which is drawn for this one connection. The first member looks at what all have put up
and says whether there is a ring: only if every member can take part, by the same protocol.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any, Protocol

# What the native library speaks; members of another version do not join.
PROTOCOL = f"1 {sys.byteorder}"
_TOKEN_BYTES = 32
# Of one who has connected, to show the token. The member before sends it at once.
_PATIENCE_S = 2.0


class Board(Protocol):
    """Where the members of a generation leave words for each other, each word once."""

    def put(self, key: str, value: str) -> None:
        """Leave a word."""

    def get(self, key: str, timeout_s: float) -> str:
        """Return a word as soon as it is there. Raises TimeoutError if it does not come."""


class NoRing(Exception):
    """The members have agreed to go without; the text says why."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the first member waits for a word of the others, and these for its verdict.

    After an upgrade there may be members that know of no ring and say nothing. The second is so
    much longer that a verdict which comes at all comes in time.
    """

    word_s: float = 10
    verdict_s: float = 40


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member stands: its position among `members`, and the host that it listens at."""

    position: int
    members: int
    host: str


def meet(
    place: Place, board: Board, patience: Patience, lacking: str = ""
) -> tuple[socket.socket, socket.socket]:
    """Return the connections with the member before and with the next one.

    `lacking` is what keeps this member from taking part. All members call this once, and all
    raise NoRing or none does. Raises OSError, or what the board raises, if another is lost.
    """
    token = secrets.token_hex(_TOKEN_BYTES)
    with _listen(place.host) as listener:
        word = {
            "protocol": PROTOCOL,
            "lacking": lacking,
            "host": place.host,
            "port": listener.getsockname()[1],
            "token": token,
        }
        _put(board, f"member/{place.position}", word)
        until = time.monotonic() + patience.word_s
        if place.position == 0:
            _put(board, "verdict", {"lacking": _verdict(place, board, until)})
        until = time.monotonic() + patience.verdict_s
        try:
            lacking = _get(board, "verdict", until)["lacking"]
        except TimeoutError:
            lacking = "worker 0 knows of no ring"
        if lacking:
            raise NoRing(lacking)
        following = _get(board, f"member/{(place.position + 1) % place.members}", until)
        right = _connect(following, until)
        try:
            return _accept(listener, token, until), right
        except BaseException:
            right.close()
            raise


def _put(board: Board, key: str, value: dict[str, Any]) -> None:
    board.put(f"taas/ring/{key}", json.dumps(value))


def _get(board: Board, key: str, until: float) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(board.get(f"taas/ring/{key}", _left(until)))
    return value


def _left(until: float) -> float:
    """Seconds that remain; never 0, which would mean for ever to some."""
    return max(until - time.monotonic(), 0.001)


def _verdict(place: Place, board: Board, until: float) -> str:
    """Return why there is no ring, "" if there is one."""
    for position in range(place.members):
        try:
            member = _get(board, f"member/{position}", until)
        except TimeoutError:
            return f"worker {position} knows of no ring"
        if member["lacking"]:
            return f"worker {position}: {member['lacking']}"
        if member["protocol"] != PROTOCOL:
            return f"worker {position} speaks {member['protocol']}, not {PROTOCOL}"
    return ""


def _listen(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.bind((host, 0))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _connect(member: dict[str, Any], until: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in member["host"] else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(until))
        connection.connect((member["host"], member["port"]))
        connection.sendall(bytes.fromhex(member["token"]))
    except BaseException:
        connection.close()
        raise
    _prepare(connection)
    return connection


def _accept(listener: socket.socket, token: str, until: float) -> socket.socket:
    """Return the connection of the member that shows the token; strangers are hung up on."""
    expected = bytes.fromhex(token)
    while True:
        listener.settimeout(_left(until))
        connection, _ = listener.accept()
        try:
            connection.settimeout(min(_PATIENCE_S, _left(until)))
            if hmac.compare_digest(_receive(connection, _TOKEN_BYTES), expected):
                _prepare(connection)
                return connection
        except OSError:
            pass  # Whoever that was, the member before is still to come.
        except BaseException:
            connection.close()
            raise
        connection.close()


def _receive(connection: socket.socket, size: int) -> bytes:
    """Return `size` bytes, or fewer if that is all that comes."""
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data


def _prepare(connection: socket.socket) -> None:
    connection.settimeout(None)
    # Buffers stay as the kernel sizes them, which measures better than any fixed size.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
