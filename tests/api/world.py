"""A served controller with fakes below and simulated agents around, for the API tests."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format

from controller.access.ports import Access
from controller.limits import CallLimits, Limits
from controller.local.access import LocalAccess, PodTokens
from controller.local.storage import FolderStorage
from controller.model import Job, JobKey, PodPhase
from controller.render import PodSettings
from controller.server import Listener, serving
from protos import keepalive
from protos.taas.v1 import (
    history_pb2,
    job_pb2,
    training_service_pb2,
    training_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from tests.fakes import FakeCluster, FakeStore
from trainer.storage import JobPaths

NAMESPACE = "namespaces/default"
# Nothing here takes long; the bound only keeps a broken test from hanging.
BOUND_S = 60.0


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Wait until the condition gives something true, and return it."""
    async with asyncio.timeout(BOUND_S):
        while not (found := await condition()):  # noqa: ASYNC110, any state, not one event
            await asyncio.sleep(0.01)
        return found


def archive(text: str = "def task(params): ...\n") -> tuple[bytes, job_pb2.Source]:
    """Return a packed source folder and its description."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("task.py")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    data = gzip.compress(packed.getvalue(), mtime=0)
    return data, job_pb2.Source(digest=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


@dataclass
class World:
    """The served controller and what lies below it."""

    address: str
    store: FakeStore
    cluster: FakeCluster
    storage: FolderStorage
    root: Path
    channel: grpc.aio.Channel
    workers_channel: grpc.aio.Channel
    tokens: PodTokens

    @property
    def client(self) -> Any:
        """The TrainingService, as any gRPC client sees it."""
        return training_service_pb2_grpc.TrainingServiceStub(self.channel)

    async def upload(self, data: bytes, source: job_pb2.Source, piece: int = 1000) -> Any:
        """Send an archive in pieces.

        As the client of this project does, without asyncio: grpc.aio tells of a refusal as an
        internal error of its own when it is about to send the next piece.
        """

        def pieces() -> Iterator[training_service_pb2.UploadSourceRequest]:
            header = training_service_pb2.UploadSourceHeader(parent=NAMESPACE, source=source)
            yield training_service_pb2.UploadSourceRequest(header=header)
            for start in range(0, len(data), piece):
                yield training_service_pb2.UploadSourceRequest(data=data[start : start + piece])

        with grpc.insecure_channel(self.address) as channel:
            stub = training_service_pb2_grpc.TrainingServiceStub(channel)
            return await asyncio.to_thread(stub.UploadSource, pieces())

    async def submit(self, job_id: str, *, workers: int = 1, **spec: Any) -> job_pb2.TrainingJob:
        """Upload a source and create a job from it."""
        data, source = archive()
        await self.upload(data, source)
        return await self.client.CreateTrainingJob(create_request(job_id, workers=workers, **spec))

    async def job(self, job_id: str) -> Job:
        """Return a job as stored."""
        return await self.store.get(JobKey("default", job_id))

    async def phase(self, job_id: str, phase: str) -> job_pb2.TrainingJob:
        """Wait until a client sees the job in that phase."""
        number = job_pb2.Phase.Value(f"PHASE_{phase}")

        async def reached() -> Any:
            request = training_service_pb2.GetTrainingJobRequest(name=job_name(job_id))
            job = await self.client.GetTrainingJob(request)
            return job if job.status.phase == number else None

        return await until(reached)

    async def pods(self, job_id: str, count: int) -> None:
        """Wait until the job has so many pods."""

        async def there() -> bool:
            return len(await self.cluster.pods(await self.job(job_id))) == count

        await until(there)

    async def agent(self, job_id: str, index: int, **hello: Any) -> Agent:
        """Let the worker's pod run and its agent call."""

        async def pod() -> Any:
            pods = await self.cluster.pods(await self.job(job_id))
            return next((p for p in pods if p.index == index and not p.deleting), None)

        seen = await until(pod)
        key = JobKey("default", job_id)
        if seen.phase is PodPhase.PENDING:
            self.cluster.pod_runs(key, index)
        job = await self.job(job_id)
        agent = Agent(self, job, index, seen.uid)
        await agent.call(**hello)
        return agent


class Agent:
    """A simulated agent: real gRPC, no process. The test says what its trainer does."""

    def __init__(self, world: World, job: Job, index: int, pod_uid: str) -> None:
        self.world, self.job, self.index, self.pod_uid = world, job, index, pod_uid
        paths = JobPaths(world.root, job.key.namespace, job.key.name, job.uid)
        self.paths = paths
        self.stream: Any = None
        self.records = 0
        self.generation = 0

    async def call(self, *, token: str | None = None, **hello: Any) -> None:
        """Open the stream, by default with the pod's own token, and say hello."""
        stub = worker_service_pb2_grpc.WorkerServiceStub(self.world.workers_channel)
        shown = self.world.tokens.token(self.pod_uid) if token is None else token
        self.stream = stub.Connect(metadata=(("authorization", f"Bearer {shown}"),))
        await self.send(
            hello=worker_service_pb2.Hello(
                namespace=self.job.key.namespace,
                job=self.job.key.name,
                job_uid=self.job.uid,
                index=self.index,
                pod_uid=self.pod_uid,
                address=f"127.0.0.1:{3000 + self.index}",
                **hello,
            )
        )

    async def send(self, **message: Any) -> None:
        """Send one message."""
        await self.stream.write(worker_service_pb2.ConnectRequest(**message))

    async def order(self, kind: str) -> Any:
        """Wait for the next order of that kind; orders are repeated, so others are passed over."""
        async with asyncio.timeout(BOUND_S):
            while True:
                response = await self.stream.read()
                assert response is not grpc.aio.EOF, f"stream ended before a {kind}"
                if response.WhichOneof("kind") == kind:
                    return getattr(response, kind)

    async def start(self) -> Any:
        """Obey the next order to start; one that was obeyed before is passed over."""
        while (order := await self.order("start")).generation <= self.generation:
            continue
        self.generation, self.records = order.generation, 0
        await self.heartbeat(step=0, stage="TRAINING")
        return order

    async def heartbeat(self, *, step: int, stage: str) -> None:
        """Say how far the trainer is."""
        number = worker_service_pb2.TrainerStage.Value(f"TRAINER_STAGE_{stage}")
        beat = worker_service_pb2.Heartbeat(generation=self.generation, step=step, stage=number)
        await self.send(heartbeat=beat)

    async def record(self, *, tell: bool = True, **kind: Any) -> history_pb2.Record:
        """Write a record to storage as a chief does, then tell the controller."""
        record = history_pb2.Record(generation=self.generation, index=self.records, **kind)
        record.time.GetCurrentTime()
        self.records += 1
        path = self.paths.record_file(self.generation)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json_format.MessageToJson(record, indent=None) + "\n")
        if tell:
            await self.send(record=record)
        return record

    async def step(self, step: int, *, tell: bool = True) -> None:
        """Make a step and record it."""
        await self.record(progress=job_pb2.Progress(step=step, total_steps=100), tell=tell)
        if tell:
            await self.heartbeat(step=step, stage="TRAINING")

    async def exit(self, outcome: str, failure: job_pb2.Failure | None = None) -> None:
        """Say how the trainer ended."""
        number = worker_service_pb2.Outcome.Value(f"OUTCOME_{outcome}")
        await self.send(
            exited=worker_service_pb2.Exited(
                generation=self.generation, outcome=number, failure=failure
            )
        )

    async def log(self, text: str) -> None:
        """Print: append to the log in storage."""
        path = self.paths.log_file(self.index)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    async def ended(self) -> grpc.StatusCode:
        """Wait until the controller ends the stream, and return how."""
        with suppress(grpc.aio.AioRpcError):
            async with asyncio.timeout(BOUND_S):
                while await self.stream.read() is not grpc.aio.EOF:
                    continue
        code: grpc.StatusCode = await self.stream.code()
        return code

    async def leave(self) -> None:
        """Close the stream as an agent that is gone."""
        self.stream.cancel()


def job_name(job_id: str) -> str:
    """Return the resource name of a job."""
    return f"{NAMESPACE}/trainingJobs/{job_id}"


def create_request(
    job_id: str, *, workers: int = 1, request_id: str = "", **spec: Any
) -> training_service_pb2.CreateTrainingJobRequest:
    """Return a request for a job whose source is archive()."""
    _, source = archive()
    return training_service_pb2.CreateTrainingJobRequest(
        parent=NAMESPACE,
        training_job_id=job_id,
        request_id=request_id,
        training_job=job_pb2.TrainingJob(
            spec=job_pb2.TrainingJobSpec(
                task=job_pb2.TaskProgram(module="task.py"),
                source=source,
                workers=workers,
                **spec,
            )
        ),
    )


async def trained(world: World, job_id: str = "one") -> Agent:
    """Run a one-worker job to its end: steps 1..3."""
    await world.submit(job_id)
    agent = await world.agent(job_id, 0)
    await agent.start()
    for step in (1, 2, 3):
        await agent.step(step)
    await agent.exit("DONE")
    await world.phase(job_id, "SUCCEEDED")
    return agent


@asynccontextmanager
async def served(
    folder: Path,
    *,
    store: FakeStore | None = None,
    cluster: FakeCluster | None = None,
    storage: FolderStorage | None = None,
    pings: keepalive.Options | None = None,
    access: Access | None = None,
    limits: Limits | None = None,
    calls: CallLimits | None = None,
    listener: Listener | None = None,
) -> AsyncIterator[World]:
    """Serve a controller in this process; given a store and a cluster, after a restart. Without
    an `access` it is that of the local backend."""
    store, cluster = store or FakeStore(), cluster or FakeCluster()
    root, tokens = folder / "storage", PodTokens.of(folder)
    storage = storage or FolderStorage(root)
    address, workers_at = f"unix:{folder}/taas.sock", f"unix:{folder}/taas.pods"
    settings = PodSettings(controller=workers_at, storage_root=str(root))
    info = training_service_pb2.ServiceInfo(version="0", backend="fake", max_workers=8)
    limits = replace(limits or Limits(), max_workers=8, max_source_bytes=100_000)
    limits = replace(limits, calls=calls or CallLimits())
    async with (
        serving(
            listener or Listener(address),
            Listener(workers_at),
            store,
            cluster,
            storage,
            access=access or LocalAccess(tokens),
            pods=lambda: settings,
            info=info,
            limits=limits,
            pings=pings,
        ) as bound,
        grpc.aio.insecure_channel(bound.callers) as channel,
        grpc.aio.insecure_channel(bound.workers) as workers_channel,
    ):
        yield World(bound.callers, store, cluster, storage, root, channel, workers_channel, tokens)
