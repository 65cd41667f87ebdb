"""A caller that speaks HTTP/2 for itself: it says what no library of gRPC would say.

It keeps to the windows that the service gives it, or not, as it likes; it never finishes a request.
"""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass, field

# What a client of HTTP/2 begins with, and empty settings.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GO_AWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_INITIAL_WINDOW_SIZE = 4
FRAME_BYTES = 16384
_FIRST_WINDOW = 65535
# Only keeps a broken test from hanging.
_BOUND_S = 60.0


def ready(one: socket.socket, events: int, wait_s: float) -> int:
    """Return which of poll's events a socket is ready for, 0 if for none within that time. Unlike
    select this works for any number of open files."""
    poll = select.poll()
    poll.register(one, events)
    found = poll.poll(1000 * wait_s)
    return found[0][1] if found else 0


@dataclass
class _Stream:
    """A request that is being sent: what is left of it, and how much the service takes."""

    left: int
    window: int


@dataclass
class Connection:
    """A connection to a service's socket."""

    path: str
    socket: socket.socket = field(init=False)
    # Streams that the service has ended.
    ended: set[int] = field(default_factory=set)
    hung_up: bool = False
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _window: int = _FIRST_WINDOW
    _initial: int = _FIRST_WINDOW
    _received: bytes = b""

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(_BOUND_S)
        self.socket.connect(self.path)
        self.socket.sendall(HELLO)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def call(self, method: str, size: int, *, token: str = "") -> int:
        """Begin a call whose message is said to have so many bytes; return its stream."""
        number = 2 * len(self._streams) + 1
        self._say(HEADERS, _END_HEADERS, number, _headers(method, token))
        self._say(DATA, 0, number, b"\0" + size.to_bytes(4, "big"))
        self._streams[number] = _Stream(size - 1, self._initial - 5)
        self._window -= 5
        return number

    def send_all_but_the_end(self, patience_s: float) -> int:
        """Send of every message what the service takes, but for its last byte, until it has taken
        nothing for so long. Return how much it took."""
        taken = 0
        while not self.hung_up:
            sent = sum(self._sent(number, stream) for number, stream in self._streams.items())
            taken += sent
            if not self._listen(0 if sent else patience_s) and not sent:
                break
        return taken

    def until_ended(self, stream: int) -> None:
        """Return when the service has ended a call, or the connection."""
        while stream not in self.ended and not self.hung_up:
            assert self._listen(_BOUND_S), "the service says nothing"

    def _sent(self, number: int, stream: _Stream) -> int:
        size = min(stream.left, stream.window, self._window, FRAME_BYTES)
        if size <= 0 or number in self.ended or self.hung_up:
            return 0
        self._say(DATA, 0, number, bytes(size))
        stream.left -= size
        stream.window -= size
        self._window -= size
        return size

    def _say(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        try:
            self.socket.sendall(frame(kind, flags, stream, content))
        except ConnectionError:
            self.hung_up = True

    def _listen(self, wait_s: float) -> bool:
        """Take in what the service says, if it says something within that time."""
        if self.hung_up or not ready(self.socket, select.POLLIN, wait_s):
            return False
        try:
            more = self.socket.recv(1 << 16)
        except ConnectionError:
            more = b""
        if not more:
            self.hung_up = True
            return True
        self._received += more
        while len(self._received) >= 9 + int.from_bytes(self._received[:3], "big"):
            size = int.from_bytes(self._received[:3], "big")
            kind, flags = self._received[3], self._received[4]
            stream = int.from_bytes(self._received[5:9], "big")
            content, self._received = self._received[9 : 9 + size], self._received[9 + size :]
            self._hear(kind, flags, stream, content)
        return True

    def _hear(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if kind == RST_STREAM or (kind in (HEADERS, DATA) and flags & _END_STREAM):
            self.ended.add(stream)
        elif kind == GO_AWAY:
            self.hung_up = True
        elif kind == PING and not flags & _ACK:
            self._say(PING, _ACK, 0, content)
        elif kind == SETTINGS and not flags & _ACK:
            self._adjust(content)
            self._say(SETTINGS, _ACK, 0, b"")
        elif kind == WINDOW_UPDATE:
            more = int.from_bytes(content, "big")
            if stream == 0:
                self._window += more
            elif stream in self._streams:
                self._streams[stream].window += more

    def _adjust(self, settings: bytes) -> None:
        for place in range(0, len(settings), 6):
            name = int.from_bytes(settings[place : place + 2], "big")
            value = int.from_bytes(settings[place + 2 : place + 6], "big")
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._initial
                self._initial = value


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """Return a frame as it goes over the wire."""
    head = len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + content


def _headers(method: str, token: str) -> bytes:
    """Return the headers of a call, as literals of HPACK that no table remembers."""

    def literal(name: bytes, value: str) -> bytes:
        assert len(value) < 127, "longer ones have another form"
        return name + bytes([len(value)]) + value.encode()

    # POST, http, :path, :authority, content-type by their numbers in HPACK's table.
    fields = b"\x83\x86" + literal(b"\x04", method) + literal(b"\x01", "localhost")
    fields += literal(b"\x0f\x10", "application/grpc") + literal(b"\x00\x02te", "trailers")
    return fields + (literal(b"\x00\x0dauthorization", f"Bearer {token}") if token else b"")
