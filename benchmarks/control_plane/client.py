"""What clients do: submit, resume, cancel, look. Over gRPC, and with many calls at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio

from protos.taas.v1 import job_pb2, training_service_pb2_grpc
from protos.taas.v1 import training_service_pb2 as pb
from tests.api.world import archive

NAMESPACES = 20
# Of the calls of one caller so many are let in at once, and the others wait; see CallLimits.
_AT_ONCE = 64
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Named:
    """A job by its number."""

    number: int

    @property
    def parent(self) -> str:
        """Its namespace's resource name."""
        return f"namespaces/team-{self.number % NAMESPACES:02d}"

    @property
    def id(self) -> str:
        """Its id in the namespace."""
        return f"job-{self.number:05d}"

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"{self.parent}/trainingJobs/{self.id}"


def channel(target: str) -> grpc.aio.Channel:
    """Return a connection that is not shared with others of this process."""
    return grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])


def upload(target: str) -> job_pb2.Source:
    """Upload the source of all jobs."""
    data, source = archive()
    header = pb.UploadSourceHeader(parent=Named(0).parent, source=source)
    pieces = iter([pb.UploadSourceRequest(header=header, data=data)])
    with grpc.insecure_channel(target) as line:
        training_service_pb2_grpc.TrainingServiceStub(line).UploadSource(pieces)
    return source


class Client:
    """The calls of one caller."""

    def __init__(self, target: str, source: job_pb2.Source, workers: int) -> None:
        self._channel = channel(target)
        self.stub: Any = training_service_pb2_grpc.TrainingServiceStub(self._channel)
        self._source = source
        self._workers = workers

    async def aclose(self) -> None:
        """Hang up."""
        await self._channel.close()

    async def submit(self, numbers: Iterable[int]) -> list[float]:
        """Submit jobs that are held, and return when each was acknowledged."""

        async def one(job: Named) -> float:
            spec = job_pb2.TrainingJobSpec(
                task=job_pb2.TaskProgram(module="task.py"),
                source=self._source,
                workers=self._workers,
                suspend=True,
            )
            request = pb.CreateTrainingJobRequest(
                parent=job.parent,
                training_job_id=job.id,
                training_job=job_pb2.TrainingJob(spec=spec),
                request_id=job.id,
            )
            await self.stub.CreateTrainingJob(request)
            return time.perf_counter()

        return await in_turn(one, map(Named, numbers))

    async def resume(self, numbers: Iterable[int]) -> None:
        """Let jobs run that are held."""

        async def one(job: Named) -> None:
            await self.stub.ResumeTrainingJob(pb.ResumeTrainingJobRequest(name=job.name))

        await in_turn(one, map(Named, numbers))

    async def time_cancel(self, number: int) -> float:
        """Cancel a job that is held, and return the seconds until a watcher is told that it is
        cancelled: a stored wish, a pass, a stored status, an event."""
        job = Named(number)
        watching = self.stub.WatchTrainingJob(pb.WatchTrainingJobRequest(name=job.name))
        events = aiter(watching)
        # It was told of as held, and so it is being watched now.
        while (await anext(events)).event.state.to != job_pb2.PHASE_SUSPENDED:
            pass
        began = time.perf_counter()
        await self.stub.CancelTrainingJob(pb.CancelTrainingJobRequest(name=job.name))
        while (await anext(events)).event.state.to != job_pb2.PHASE_CANCELLED:
            pass
        seconds = time.perf_counter() - began
        watching.cancel()
        return seconds

    async def jobs(self) -> list[job_pb2.TrainingJob]:
        """Return all jobs."""
        found: list[job_pb2.TrainingJob] = []
        token = ""
        while True:
            page = await self.stub.ListTrainingJobs(
                pb.ListTrainingJobsRequest(parent="namespaces/-", page_size=1000, page_token=token)
            )
            found += page.training_jobs
            token = page.next_page_token
            if not token:
                return found

    async def answered(self) -> None:
        """Return when the service answers."""
        while True:
            with suppress(grpc.aio.AioRpcError):
                await self.stub.GetServiceInfo(pb.GetServiceInfoRequest(), timeout=1)
                return
            await asyncio.sleep(0.02)


async def in_turn(do: Callable[[_T], Awaitable[_R]], items: Iterable[_T]) -> list[_R]:
    """Do something with each item, a bounded number of them at a time."""
    left, results = iter(items), list[_R]()

    async def worker() -> None:
        for item in left:
            results.append(await do(item))

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(worker())
    return results
