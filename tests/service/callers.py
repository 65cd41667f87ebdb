"""Callers that mean a service no good."""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from protos.taas.v1 import training_service_pb2_grpc
from tests.http2 import DATA, FRAME_BYTES, Connection, frame, ready

# The largest message that gRPC can announce.
_MOST = (1 << 32) - 1
_STREAMS_OF_A_CONNECTION = 100
# How long somebody who wants to fill the service's memory waits for it to take more.
_PATIENCE_S = 1.0
# Only keeps a broken test from hanging.
_BOUND_S = 60.0


@contextmanager
def idle_connections(path: str, count: int) -> Iterator[None]:
    """So many connections to a socket that the service has answered, and nothing more is said."""
    held = []
    try:
        with selectors.DefaultSelector() as answers:
            for _ in range(count):
                one = Connection(path)
                held.append(one)
                answers.register(one.socket, selectors.EVENT_READ)
            for one in held:
                assert one.socket.recv(9), "the service hung up"
        yield
    finally:
        for one in held:
            one.close()


@contextmanager
def lazy_readers(
    target: str, method: str, request: Any, count: int, *, told: int
) -> Iterator[None]:
    """So many streams of answers; of so many of them the first answer is taken, and no other."""
    # Without probing for bandwidth the window stays what HTTP/2 begins with, 64 KiB a stream.
    options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    with contextlib.ExitStack() as stack:
        for begin in range(0, count, _STREAMS_OF_A_CONNECTION):
            channel = stack.enter_context(grpc.insecure_channel(target, options=options))
            stub = training_service_pb2_grpc.TrainingServiceStub(channel)
            for number in range(begin, min(count, begin + _STREAMS_OF_A_CONNECTION)):
                call = getattr(stub, method)(request)
                stack.callback(call.cancel)
                if number < told:
                    next(call)
        yield


@contextmanager
def stalled_requests(
    path: str, method: str, count: int, size: int, token: Callable[[int], str] = lambda _: ""
) -> Iterator[int]:
    """So many requests of that size whose last byte never comes, each with its token; gives how
    many bytes of them the service has taken."""
    with contextlib.ExitStack() as stack:
        connections = []
        for begin in range(0, count, _STREAMS_OF_A_CONNECTION):
            one = Connection(path)
            stack.callback(one.close)
            connections.append(one)
            for number in range(begin, min(count, begin + _STREAMS_OF_A_CONNECTION)):
                one.call(method, size, token=token(number))
        yield sum(one.send_all_but_the_end(_PATIENCE_S) for one in connections)


def message_is_refused(path: str, method: str, size: int, token: str) -> None:
    """Return when the service has ended a call of which it knows its message's size alone."""
    one = Connection(path)
    try:
        one.until_ended(one.call(method, size, token=token))
    finally:
        one.close()


def send_a_huge_message(path: str, method: str, size: int) -> int:
    """Announce the largest message that there is, whatever is answered go on sending up to so
    many bytes, and return how many the service has let in before it hung up."""
    one = Connection(path)
    try:
        one.until_ended(one.call(method, _MOST))
        return _pushed(one.socket, size)
    finally:
        one.close()


def _pushed(one: socket.socket, size: int) -> int:
    data = frame(DATA, 0, 1, bytes(FRAME_BYTES))
    sent, rest = 0, data
    while sent < size:
        found = ready(one, select.POLLIN | select.POLLOUT, _BOUND_S)
        assert found, "the service neither reads nor hangs up"
        readable, writable = found & ~select.POLLOUT, found & select.POLLOUT
        try:
            if readable and not one.recv(1 << 16):
                break
            if writable:
                taken = one.send(rest, socket.MSG_DONTWAIT)
                sent, rest = sent + taken, rest[taken:] or data
        except BlockingIOError:
            continue
        except ConnectionError:
            break
    return sent
