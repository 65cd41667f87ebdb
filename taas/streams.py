"""Server streams that survive the loss of the service: opened again where they were left."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from taas.errors import ServiceUnavailable, TimedOut, from_rpc

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")

# Every call has a deadline; a stream that reaches it is opened again like one that broke.
_STREAM_S = 86_400.0
# A stream that lasted this long had a connection (gRPC gives up connecting after 20 s), so its
# loss is a new one, even if nothing happened that it could have told.
_STEADY_S = 30.0
# How streams end that a service did not mean to end; safe to repeat here because every stream
# is read-only and goes on from a position.
_LOST = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


class Backoff:
    """Says how long to wait before the next try, until a total time is over.

    Pauses double from 0.1 s to 2 s, with jitter so that many clients do not come at once.
    """

    def __init__(self, total_s: float) -> None:
        self._deadline = time.monotonic() + total_s
        self._pause_s = 0.1

    def next_pause_s(self, asked_s: float | None = None) -> float | None:
        """Return seconds to wait, None when there is no time left; `asked_s` is a minimum."""
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            return None
        pause_s = max(self._pause_s * random.uniform(0.75, 1.25), asked_s or 0.0)
        self._pause_s = min(self._pause_s * 2, 2.0)
        return min(pause_s, left_s)


@dataclass(frozen=True, slots=True)
class Retry:
    """How a stream copes: whom it calls, when the client is closed, how long the service may
    stay away, who is told of each try and that it is back, how long the stream may last in all."""

    target: str
    closed: threading.Event
    reconnect_for_s: float
    on_lost: Callable[[ServiceUnavailable], None] | None
    timeout_s: float | None
    on_back: Callable[[], None] | None = None


def resumed(
    method: Callable[..., Any],
    request: object,
    accept: Callable[[_Answer], _Item | None],
    retry: Retry,
) -> Iterator[_Item]:
    """Yield what `accept` makes of each answer (None is passed over); it also moves the position
    in `request`, so that the stream is opened again after the last answer accepted."""
    deadline = None if retry.timeout_s is None else time.monotonic() + retry.timeout_s
    backoff: Backoff | None = None
    away = False
    while True:
        opened, told = time.monotonic(), False
        call = _open(method, request, deadline, retry)
        try:
            for answer in call:
                backoff, told = None, True
                if away and retry.on_back is not None:
                    retry.on_back()
                away = False
                item = accept(answer)
                if item is not None:
                    yield item
            if away and retry.on_back is not None:
                retry.on_back()
            return
        except grpc.RpcError as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimedOut("the time given for the stream is over") from error
            steady = time.monotonic() - opened > _STEADY_S
            # A stream that was let in ends when its token expires; by then the file of the token
            # may hold a new one, which is shown when it is opened again.
            let_in = told or steady
            if error.code() is grpc.StatusCode.UNAUTHENTICATED and let_in:
                continue
            if steady:
                backoff = None
            backoff = backoff or Backoff(retry.reconnect_for_s)
            away = True
            _pause(error, backoff, retry)
        finally:
            call.cancel()


def _open(method: Callable[..., Any], request: object, deadline: float | None, retry: Retry) -> Any:
    left_s = _STREAM_S if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        return method(request, timeout=min(_STREAM_S, left_s))
    except ValueError as error:  # what grpc raises on a closed channel
        raise ServiceUnavailable("this client is closed; make a new one") from error


def _pause(error: grpc.RpcError, backoff: Backoff, retry: Retry) -> None:
    """Tell that the service was lost, and wait. Raises if it was not, or is for too long."""
    translated = from_rpc(error, target=retry.target)
    if retry.closed.is_set():
        raise ServiceUnavailable("the stream was closed on this side") from error
    if error.code() not in _LOST:
        raise translated from error
    lost = (
        translated
        if isinstance(translated, ServiceUnavailable)
        else ServiceUnavailable(f"the service at {retry.target} broke off the stream")
    )
    pause_s = backoff.next_pause_s(lost.retry_after_s)
    if pause_s is None:
        raise lost from error
    if retry.on_lost is not None:
        retry.on_lost(lost)
    if retry.closed.wait(pause_s):
        raise lost from error
