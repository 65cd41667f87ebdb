"""The agent's stream to the controller: kept up for ever, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from protos import keepalive
from protos.taas.v1 import worker_service_pb2 as wire
from protos.taas.v1 import worker_service_pb2_grpc

_log = logging.getLogger(__name__)

_BEAT_S = 1.0
_BACKOFF_S = (0.1, 1.0)
# A stream that has lived this long was a good one: the next pause is short again.
_GOOD_S = 5.0
# At the few records a second that a chief writes, minutes of a slow network; the controller
# finds dropped ones in the shared storage.
_MOST_QUEUED = 1000
_LOG_CHUNK = 64 * 1024

OPTIONS = (
    # A controller behind a web proxy is a misunderstanding of the environment.
    ("grpc.enable_http_proxy", 0),
    # A silently dead path is noticed within half a minute.
    *keepalive.pings(),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True, slots=True)
class Controller:
    """How the controller is reached: gRPC target, the certificates to believe ("": no TLS), and
    the file with the token to show (None: none)."""

    target: str
    ca: str = ""
    token_file: Path | None = None

    def channel(self) -> grpc.aio.Channel:
        """Return a new channel."""
        if not self.ca:
            return grpc.aio.insecure_channel(self.target, options=OPTIONS)
        credentials = grpc.ssl_channel_credentials(self.ca.encode())
        return grpc.aio.secure_channel(self.target, credentials, options=OPTIONS)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a stream begins with. Raises OSError. The file is read each time: the
        token in it is renewed before it expires."""
        if self.token_file is None:
            return ()
        return (("authorization", f"Bearer {self.token_file.read_text().strip()}"),)


class Link:
    """Says what the agent has to say, and passes on the orders that come.

    On every new stream hello comes first; it repeats all that matters of what may have been
    lost, so nothing is kept for later while there is no stream.
    """

    def __init__(
        self,
        controller: Controller,
        *,
        hello: Callable[[], wire.Hello],
        heartbeat: Callable[[], wire.Heartbeat],
        read_log: Callable[[int, int], Awaitable[tuple[int, bytes]]],
        on_order: Callable[[wire.ConnectResponse], None],
    ) -> None:
        self._controller = controller
        self._hello = hello
        self._heartbeat = heartbeat
        self._read_log = read_log
        self._on_order = on_order
        self._queue: deque[wire.ConnectRequest] = deque()
        # Stands for the stream that is open.
        self._stream_open: object | None = None
        self._beat_due = False
        self._log_from: int | None = None
        self._closing = asyncio.Event()
        self._wake = asyncio.Event()

    def send(self, message: wire.ConnectRequest) -> None:
        """Send a record or an exit soon, in order. Of too many, the oldest record is dropped."""
        if self._stream_open is None:
            return
        self._queue.append(message)
        if len(self._queue) > _MOST_QUEUED:
            records = (i for i, m in enumerate(self._queue) if m.HasField("record"))
            del self._queue[next(records, 0)]
        self._wake.set()

    def beat(self) -> None:
        """Send a heartbeat now; something has changed."""
        self._beat_due = True
        self._wake.set()

    def log_grew(self) -> None:
        """There is more to send, if the controller follows the log."""
        if self._log_from is not None:
            self._wake.set()

    async def run(self) -> None:
        """Keep a stream open until close()."""
        loop = asyncio.get_running_loop()
        pause, complaint = _BACKOFF_S[0], ""
        async with self._controller.channel() as channel:
            stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
            while not self._closing.is_set():
                began = loop.time()
                try:
                    await self._stream(stub)
                    reason = "it hung up"
                except grpc.aio.AioRpcError as error:
                    reason = f"{error.code().name}: {error.details()}"
                except OSError as error:
                    reason = f"no token: {error}"
                if loop.time() - began > _GOOD_S:
                    pause, complaint = _BACKOFF_S[0], ""
                if reason != complaint and not self._closing.is_set():
                    _log.info("no stream to the controller (%s); trying again", reason)
                    complaint = reason
                await self._rest(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _BACKOFF_S[1])

    def close(self) -> None:
        """Send what is queued, then let run() end."""
        self._closing.set()
        self._wake.set()

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _stream(self, stub: worker_service_pb2_grpc.WorkerServiceStub) -> None:
        call = stub.Connect(self._messages(), metadata=self._controller.metadata())
        try:
            async for order in call:
                if order.WhichOneof("kind") == "follow_log":
                    wanted = order.follow_log
                    self._log_from = max(wanted.offset, 0) if wanted.follow else None
                    self._wake.set()
                else:
                    self._on_order(order)
        finally:
            self._stream_open = None
            self._wake.set()
            call.cancel()

    async def _messages(self) -> AsyncIterator[wire.ConnectRequest]:
        """Yield what one stream has to carry. grpc asks for the next when it can take it, so a
        slow controller slows this down and nothing piles up."""
        loop = asyncio.get_running_loop()
        self._queue.clear()
        self._log_from = None
        stream = self._stream_open = object()
        yield wire.ConnectRequest(hello=self._hello())
        next_beat = loop.time() + _BEAT_S
        # grpc leaves this waiting when a stream breaks; what it took then would be lost.
        while stream is self._stream_open:
            self._wake.clear()
            if loop.time() >= next_beat or (self._beat_due and not self._queue):
                self._beat_due = False
                next_beat = loop.time() + _BEAT_S
                yield wire.ConnectRequest(heartbeat=self._heartbeat())
            elif self._queue:
                # Before a change is told: how a trainer ended explains why none runs.
                yield self._queue.popleft()
            elif self._log_from is not None and (chunk := await self._next_chunk(stream)):
                yield wire.ConnectRequest(log=chunk)
            elif self._closing.is_set():
                return
            else:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), next_beat - loop.time())

    async def _next_chunk(self, stream: object) -> wire.LogChunk | None:
        wanted = self._log_from
        if wanted is None:
            return None
        begin, data = await self._read_log(wanted, _LOG_CHUNK)
        # Another order, or another stream, may have come while the file was read.
        if not data or self._log_from != wanted or self._stream_open is not stream:
            return None
        self._log_from = begin + len(data)
        return wire.LogChunk(offset=begin, data=data)
