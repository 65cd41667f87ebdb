"""Whole rings within one process, over pairs of sockets."""

from __future__ import annotations

import ctypes
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from trainer.ring import native

SUMMED, LOST, DIFFERS, REFUSED = range(4)
# A bound for a broken library only.
TIMEOUT_S = 60
PATIENT_MS = 60_000


class Reduction:
    """One member's part of a reduction: the arrays are summed in place."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self._ended = threading.Event()
        self._outcome, self.error = -1, ""
        # The library calls it from its thread, so it must live as long.
        self.done = native.Done(self._done)
        self.segments = (native.Segment * len(arrays))(
            *(native.Segment(array.ctypes.data, array.nbytes) for array in arrays)
        )
        self._arrays = arrays

    def _done(self, _: Any, outcome: int, error: bytes | None) -> None:
        self._outcome, self.error = outcome, (error or b"").decode()
        self._ended.set()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def outcome(self) -> int:
        """Wait for the end, and return how it was."""
        assert self._ended.wait(TIMEOUT_S), "the reduction does not end"
        return self._outcome


class Member:
    """One member of a ring."""

    def __init__(self, library: ctypes.CDLL, handle: int) -> None:
        self._library, self._handle = library, handle

    def start(self, key: int, arrays: Sequence[Any], dtype: int) -> Reduction:
        """Begin to reduce."""
        reduction = Reduction(arrays)
        self._library.ring_start(
            self._handle,
            key,
            dtype,
            reduction.segments,
            len(arrays),
            reduction.done,
            None,
        )
        return reduction

    def close(self) -> None:
        """Leave the ring. May be called twice."""
        if self._handle:
            self._library.ring_close(self._handle)
            self._handle = 0


def member(
    library: ctypes.CDLL,
    rank: int,
    size: int,
    left: socket.socket,
    right: socket.socket,
    silence_ms: int,
) -> Member:
    """Return a member that owns both sockets."""
    return Member(library, library.ring_open(rank, size, left.detach(), right.detach(), silence_ms))


@contextmanager
def ring(library: ctypes.CDLL, size: int) -> Iterator[list[Member]]:
    """Give the members of a ring, which is closed afterwards."""
    pairs = [socket.socketpair() for _ in range(size)]
    members = [
        member(library, rank, size, pairs[rank - 1][1], pairs[rank][0], PATIENT_MS)
        for rank in range(size)
    ]
    try:
        yield members
    finally:
        for one in members:
            one.close()
