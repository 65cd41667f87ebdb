"""What clients ask of the controller, and when the answers come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc

from protos.taas.v1 import job_pb2, training_service_pb2_grpc
from protos.taas.v1 import training_service_pb2 as pb
from tests.api.world import NAMESPACE, archive, job_name

# Streams of one connection; a server takes 256.
_STREAMS = 200


@asynccontextmanager
async def stubs(target: str, number: int) -> AsyncIterator[list[Any]]:
    """So many connections of their own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(number)]
    try:
        yield [training_service_pb2_grpc.TrainingServiceStub(channel) for channel in channels]
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


def upload(target: str) -> job_pb2.Source:
    """Upload a small program, and return its description."""
    data, source = archive()
    header = pb.UploadSourceHeader(parent=NAMESPACE, source=source)
    parts = [pb.UploadSourceRequest(header=header), pb.UploadSourceRequest(data=data)]
    with grpc.insecure_channel(target) as channel:
        training_service_pb2_grpc.TrainingServiceStub(channel).UploadSource(iter(parts))
    return source


async def submit(
    target: str,
    source: job_pb2.Source,
    jobs: Sequence[str],
    *,
    callers: int,
    workers: int,
    held: bool,
) -> list[float]:
    """Create jobs, so many calls at a time; return how long each took to be acknowledged."""
    left, took = iter(jobs), []

    async def call(stub: Any) -> None:
        for job in left:
            spec = job_pb2.TrainingJobSpec(
                task=job_pb2.TaskProgram(module="task.py"),
                source=source,
                workers=workers,
                suspend=held,
            )
            request = pb.CreateTrainingJobRequest(
                parent=NAMESPACE, training_job_id=job, training_job=job_pb2.TrainingJob(spec=spec)
            )
            began = time.monotonic()
            await stub.CreateTrainingJob(request)
            took.append(time.monotonic() - began)

    async with stubs(target, 1) as (stub,):
        await asyncio.gather(*(call(stub) for _ in range(callers)))
    return took


async def running(target: str) -> int:
    """How many jobs run."""
    count, token = 0, ""
    async with stubs(target, 1) as (stub,):
        while True:
            request = pb.ListTrainingJobsRequest(
                parent=NAMESPACE, page_size=1000, page_token=token, filter="phase=RUNNING"
            )
            answer = await stub.ListTrainingJobs(request)
            count, token = count + len(answer.training_jobs), answer.next_page_token
            if not token:
                return count


async def resume(target: str, jobs: Sequence[str]) -> dict[str, float]:
    """Let held jobs go, one after the other; return when each call began, since the epoch."""
    began = {}
    async with stubs(target, 1) as (stub,):
        for job in jobs:
            began[job] = time.time()
            await stub.ResumeTrainingJob(pb.ResumeTrainingJobRequest(name=job_name(job)))
    return began


class Watchers:
    """Streams that note how late each step's record comes, and go on by cursor when they break."""

    def __init__(self, jobs: Sequence[str]) -> None:
        """One stream for each element; a job may come more than once."""
        self._jobs = jobs
        self.late_s: list[float] = []
        # When the newest record was made that each stream has seen, since the epoch.
        self.newest = [0.0] * len(jobs)
        self.breaks = 0

    async def run(self, target: str) -> None:
        """Watch until cancelled."""
        channels = -(-len(self._jobs) // _STREAMS)
        async with stubs(target, channels) as found, asyncio.TaskGroup() as group:
            for number, job in enumerate(self._jobs):
                group.create_task(self._watch(found[number // _STREAMS], number, job))

    async def _watch(self, stub: Any, number: int, job: str) -> None:
        cursor = ""
        while True:
            request = pb.WatchTrainingJobRequest(
                name=job_name(job), cursor=cursor, from_now=not cursor
            )
            with suppress(grpc.aio.AioRpcError):
                async for answer in stub.WatchTrainingJob(request):
                    cursor = answer.event.cursor
                    if answer.event.record.HasField("progress"):
                        made = answer.event.record.time.ToNanoseconds() / 1e9
                        self.late_s.append(time.time() - made)
                        self.newest[number] = made
            self.breaks += 1
            await asyncio.sleep(0.1)
