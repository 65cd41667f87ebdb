"""Many watchers in one process. What they are told is kept as bytes and read afterwards, so that
the reader's work does not count as the service's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import grpc
import grpc.aio

from benchmarks.control_plane.client import Named, channel
from benchmarks.control_plane.figures import Told
from protos.taas.v1 import training_service_pb2 as pb

_METHOD = "/taas.v1.TrainingService/WatchTrainingJob"
# Of the 256 that one connection may carry.
_STREAMS_OF_A_LINE = 200
_AGAIN_S = 0.2
_LOOK_EVERY_S = 0.05


@dataclass
class Watcher:
    """One watcher and what it was told: when, and what."""

    job: Named
    heard: list[tuple[float, bytes]] = field(default_factory=list)
    last: bytes = b""

    async def watch(self, line: grpc.aio.Channel) -> None:
        """Watch from now on until cancelled; after a loss of the stream, from the last cursor."""
        request = pb.WatchTrainingJobRequest(name=self.job.name, from_now=True)
        method = line.unary_stream(
            _METHOD, request_serializer=pb.WatchTrainingJobRequest.SerializeToString
        )
        while True:
            with suppress(grpc.aio.AioRpcError):
                async for self.last in method(request):
                    self.heard.append((time.time(), self.last))
            if self.last:
                cursor = pb.WatchTrainingJobResponse.FromString(self.last).event.cursor
                request = pb.WatchTrainingJobRequest(name=self.job.name, cursor=cursor)
            await asyncio.sleep(_AGAIN_S)

    def records(self) -> list[tuple[float, float, int]]:
        """Return of each record heard: when it was made, when heard, its number."""
        found = []
        for heard, message in self.heard:
            event = pb.WatchTrainingJobResponse.FromString(message).event
            if event.HasField("record"):
                made = event.record.time.ToNanoseconds() / 1e9
                found.append((made, heard, event.record.index))
        return found


class Watchers:
    """Watchers of jobs."""

    def __init__(self, jobs: Sequence[int]) -> None:
        self._all = [Watcher(Named(number)) for number in jobs]

    @asynccontextmanager
    async def watching(self, target: str) -> AsyncIterator[None]:
        """Let them watch while the block runs, which begins when each has heard something."""
        lines = [channel(target) for _ in range(0, len(self._all), _STREAMS_OF_A_LINE)]
        tasks = [
            asyncio.create_task(watcher.watch(lines[number // _STREAMS_OF_A_LINE]))
            for number, watcher in enumerate(self._all)
        ]
        try:
            await self.heard_by_all()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for line in lines:
                await line.close()

    async def heard_by_all(self, since: float = 0.0) -> None:
        """Return when each has been told something after that moment."""
        waiting = self._all
        while waiting:
            await asyncio.sleep(_LOOK_EVERY_S)
            waiting = [w for w in waiting if not w.heard or w.heard[-1][0] < since]

    def forget(self) -> None:
        """Forget what they were told until now."""
        for watcher in self._all:
            watcher.heard.clear()

    def told(self, seconds: float) -> Told:
        """Return what they were told in so many seconds."""
        return Told.of([watcher.records() for watcher in self._all], seconds)
