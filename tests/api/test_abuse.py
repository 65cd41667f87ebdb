"""Callers and workers that ask for too much: told the limit, held apart, in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from controller.access.callers import Action, Caller, Verdict
from controller.access.guard import Guard
from controller.access.turns import Turns
from controller.limits import CallLimits, Limits
from controller.wire_errors import ErrorInterceptor
from protos.taas.v1 import (
    job_pb2,
    training_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from protos.taas.v1 import training_service_pb2 as pb
from tests.api.world import BOUND_S, NAMESPACE, World, archive, create_request, job_name, served
from tests.fakes import FakeAccess
from tests.http2 import Connection

CODE = grpc.StatusCode
LIST = "/taas.v1.TrainingService/ListTrainingJobs"
UPLOAD = pb.UploadSourceRequest(header=pb.UploadSourceHeader(parent=NAMESPACE))


async def refused(call: Any) -> grpc.Call:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return caught.value


async def test_a_message_of_gigabytes_is_refused_before_it_is_kept(world: World) -> None:
    """gRPC goes by the length that a message announces, so nothing of it has to come."""
    call = world.channel.unary_unary("/taas.v1.TrainingService/GetTrainingJob")
    error = await refused(call(bytes(5 * 1024 * 1024), timeout=BOUND_S))
    assert error.code() is CODE.RESOURCE_EXHAUSTED
    upload = world.channel.stream_unary("/taas.v1.TrainingService/UploadSource")
    error = await refused(upload(iter([bytes(5 * 1024 * 1024)]), timeout=BOUND_S))
    assert error.code() is CODE.RESOURCE_EXHAUSTED


# --- Quotas


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        pytest.param(Limits(max_jobs=1), "1 jobs in namespace default", id="jobs"),
        pytest.param(Limits(max_namespace_workers=3), "have 2 workers and this one", id="workers"),
    ],
)
async def test_a_namespace_has_room_for_so_much(folder: Path, limits: Limits, said: str) -> None:
    async with served(folder, limits=limits) as world:
        await world.submit("one", workers=2)
        # The same request again is not another job.
        again = create_request("one", workers=2, request_id="r")
        error = await refused(world.client.CreateTrainingJob(again))
        assert error.code() is CODE.ALREADY_EXISTS
        for only in (False, True):
            wanted = create_request("two", workers=2)
            wanted.validate_only = only
            error = await refused(world.client.CreateTrainingJob(wanted))
            assert error.code() is CODE.RESOURCE_EXHAUSTED
            assert said in (error.details() or "")
        await world.client.CancelTrainingJob(pb.CancelTrainingJobRequest(name=job_name("one")))
        world.cluster.finish_deletions()
        await world.phase("one", "CANCELLED")
        await world.client.CreateTrainingJob(create_request("two", workers=2))


async def test_growing_needs_room_and_shrinking_does_not(folder: Path) -> None:
    async with served(folder, limits=Limits(max_namespace_workers=4)) as world:
        await world.submit("one", workers=2)
        await world.client.CreateTrainingJob(create_request("two", workers=2))
        scale = pb.ScaleTrainingJobRequest(name=job_name("one"), workers=3)
        error = await refused(world.client.ScaleTrainingJob(scale))
        assert error.code() is CODE.RESOURCE_EXHAUSTED
        scale.workers = 1
        assert (await world.client.ScaleTrainingJob(scale)).spec.workers == 1
        scale.workers = 2
        assert (await world.client.ScaleTrainingJob(scale)).spec.workers == 2


async def test_uploads_are_counted_for_each_caller(folder: Path) -> None:
    data, source = archive()
    other, another = archive("x = 1\n")
    limits = Limits(max_upload_bytes=len(data) + len(other) - 1)
    async with served(folder, limits=limits) as world:
        await world.upload(data, source)
        await world.upload(data, source)  # is there already, and costs nothing
        error = await refused(world.upload(other, another))
        assert error.code() is CODE.RESOURCE_EXHAUSTED
        assert f"may upload {limits.max_upload_bytes} bytes in an hour" in (error.details() or "")


# --- Floods


class SlowForAda(FakeAccess):
    """Answers what it is asked about Ada only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def verdict(self, caller: Caller, action: Action) -> Verdict:
        """Say whether the right was given."""
        if caller.name == "ada":
            await self.let.wait()
        return await super().verdict(caller, action)


async def test_a_flood_of_calls_leaves_others_alone(folder: Path) -> None:
    """One caller makes three hundred calls at once over connections of his own. Those that go
    beyond his line are refused; another one's are answered all the while."""
    access = SlowForAda()
    access.callers = {"a": Caller("ada"), "b": Caller("bob")}
    access.rights = {(name, "list", "default", "") for name in ("ada", "bob")}
    request = pb.ListTrainingJobsRequest(parent=NAMESPACE)
    limits = CallLimits()
    room = limits.calls + limits.waiting
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with served(folder, access=access) as world, AsyncExitStack() as stack:
        floods = []
        for _ in range(3):
            channel = grpc.aio.insecure_channel(world.address, options=options)
            await stack.enter_async_context(channel)
            call = channel.unary_unary(LIST)
            metadata = (("authorization", "Bearer a"),)
            floods += [call(request.SerializeToString(), metadata=metadata) for _ in range(100)]
        codes = [asyncio.create_task(flood.code()) for flood in floods]
        async with asyncio.timeout(BOUND_S):
            ended = asyncio.as_completed(codes)
            for _ in range(len(floods) - room):
                assert await next(ended) is CODE.RESOURCE_EXHAUSTED
            for _ in range(20):
                bobs = (("authorization", "Bearer b"),)
                await world.client.ListTrainingJobs(request, metadata=bobs)
            access.let.set()
            for _ in range(room):
                assert await next(ended) is CODE.OK


async def test_requests_that_never_come_whole_hold_up_nobody_else(folder: Path) -> None:
    """One caller begins a hundred requests and ends none; another one's are answered."""
    access = FakeAccess()
    access.callers = {"a": Caller("ada"), "b": Caller("bob")}
    access.rights = {(name, "list", "default", "") for name in ("ada", "bob")}
    size = 4 * 1024 * 1024 - 100

    def stall(connection: Connection) -> int:
        for _ in range(100):
            connection.call(LIST, size, token="a")
        return connection.send_all_but_the_end(patience_s=0.5)

    async with served(folder, access=access) as world:
        hers = Connection(world.address.removeprefix("unix:"))
        try:
            taken = await asyncio.to_thread(stall, hers)
            assert taken < 100 * size / 3
            for _ in range(20):
                request = pb.ListTrainingJobsRequest(parent=NAMESPACE)
                bobs = (("authorization", "Bearer b"),)
                await world.client.ListTrainingJobs(request, metadata=bobs, timeout=BOUND_S)
        finally:
            hers.close()


class Answering(training_service_pb2_grpc.TrainingServiceServicer):
    """Answers calls of each kind, when their requests are there."""

    async def GetTrainingJob(self, request: Any, context: Any) -> Any:
        """Answer one with one."""
        return job_pb2.TrainingJob()

    async def WatchTrainingJob(self, request: Any, context: Any) -> Any:
        """Answer one with none."""
        for answer in ():
            yield answer

    async def UploadSource(self, requests: Any, context: Any) -> Any:
        """Answer many with one."""
        async for _ in requests:
            pass
        return pb.UploadSourceResponse()


@pytest.mark.parametrize(
    ("method", "sent"),
    [
        pytest.param("taas.v1.TrainingService/GetTrainingJob", [], id="one"),
        pytest.param("taas.v1.TrainingService/WatchTrainingJob", [], id="one, for many answers"),
        pytest.param("taas.v1.TrainingService/UploadSource", [], id="many"),
        pytest.param("taas.v1.TrainingService/UploadSource", [UPLOAD], id="many, after the first"),
        pytest.param("grpc.health.v1.Health/Watch", [], id="one, for answers that are written"),
        pytest.param("grpc.health.v1.Health/Check", [], id="one of anybody"),
        pytest.param(
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", [], id="talk"
        ),
    ],
)
async def test_a_request_that_does_not_come_ends_its_call(
    folder: Path, method: str, sent: list[Any]
) -> None:
    access = FakeAccess()
    access.callers = {"a": Caller("ada")}
    access.rights = {("ada", "create", "default", "source")}
    guard = Guard(access, Turns(CallLimits()), receive_s=0.1)
    server = grpc.aio.server(interceptors=[ErrorInterceptor(), guard])
    training_service_pb2_grpc.add_TrainingServiceServicer_to_server(Answering(), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)  # type: ignore[attr-defined]
    reflection.enable_server_reflection([], server)
    server.add_insecure_port(f"unix:{folder}/guarded.sock")
    await server.start()

    async def requests() -> AsyncIterator[bytes]:
        for request in sent:
            yield request.SerializeToString()
        await asyncio.Event().wait()

    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/guarded.sock") as channel:
            call = channel.stream_stream(f"/{method}")
            calling = call(requests(), metadata=(("authorization", "Bearer a"),), timeout=BOUND_S)
            assert await calling.code() is CODE.RESOURCE_EXHAUSTED
            assert "did not come whole" in (await calling.details() or "")
    finally:
        await server.stop(None)


async def test_requests_of_many_callers_that_never_come_whole_hold_up_nobody_else(
    folder: Path,
) -> None:
    """Together they would take all places where requests are received."""
    access = FakeAccess()
    many = [f"a{number}" for number in range(4)]
    access.callers = {name: Caller(name) for name in (*many, "b")}
    access.rights = {(name, "list", "default", "") for name in (*many, "b")}
    limits = Limits(calls=CallLimits(receiving=6))

    def stall(connection: Connection, token: str) -> None:
        for _ in range(10):
            connection.call(LIST, 4_000_000, token=token)
        connection.send_all_but_the_end(patience_s=0.5)

    async with served(folder, access=access, limits=limits) as world:
        theirs = [Connection(world.address.removeprefix("unix:")) for _ in many]
        stalling = asyncio.gather(
            *(asyncio.to_thread(stall, *given) for given in zip(theirs, many, strict=True))
        )
        try:
            for _ in range(3):
                request = pb.ListTrainingJobsRequest(parent=NAMESPACE)
                bobs = (("authorization", "Bearer b"),)
                await world.client.ListTrainingJobs(request, metadata=bobs, timeout=BOUND_S)
            await stalling
        finally:
            for connection in theirs:
                connection.close()


async def test_a_caller_who_never_reads_holds_little(world: World) -> None:
    """He asks for a large file and takes nothing; the server reads no further ahead than flow
    control lets it, and answers others."""
    await world.submit("one")
    job = await world.job("one")
    output = world.root / "jobs" / "default" / "one" / job.uid / "output"
    output.mkdir(parents=True)
    with (output / "big").open("wb") as file:
        file.truncate(1 << 30)
    reads = 0
    read_file = world.storage.read_file

    async def counted(*given: Any) -> bytes:
        nonlocal reads
        reads += 1
        return await read_file(*given)

    world.storage.read_file = counted  # type: ignore[method-assign]
    request = pb.DownloadFileRequest(
        parent=job_name("one"), artifact=pb.Artifact(output=True), path="big"
    )
    # Without probing for bandwidth his window stays what HTTP/2 begins with, 64 KiB a stream.
    options = [("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(world.address, options=options) as channel:
        him = training_service_pb2_grpc.TrainingServiceStub(channel)
        count = CallLimits().transfers
        idle = [him.DownloadFile(request) for _ in range(count)]
        for call in idle:
            await call.read()
        for _ in range(50):
            await world.client.GetTrainingJob(pb.GetTrainingJobRequest(name=job_name("one")))
        # Of the 2048 pieces that each has.
        assert reads < count * 20
        for call in idle:
            call.cancel()


# --- Workers that lie


async def test_a_worker_that_says_too_much_is_cut_off(world: World) -> None:
    await world.submit("one")
    agent = await world.agent("one", 0)
    await agent.start()
    metrics = {f"metric-{number}": 1.0 for number in range(20_000)}
    beat = worker_service_pb2.Heartbeat(
        generation=1, progress=job_pb2.Progress(step=1, metrics=metrics)
    )
    await agent.send(heartbeat=beat)
    assert await agent.ended() is CODE.RESOURCE_EXHAUSTED
    progress = (await world.job("one")).status.progress
    assert progress is None or not progress.metrics


async def test_a_log_that_nobody_follows_is_not_kept(world: World) -> None:
    await world.submit("one")
    agent = await world.agent("one", 0)
    await agent.start()
    await agent.send(log=worker_service_pb2.LogChunk(offset=0, data=b"x" * 100_000))
    await agent.step(1)
    await agent.exit("DONE")
    await world.phase("one", "SUCCEEDED")
    request = pb.StreamLogsRequest(name=job_name("one"))
    assert not [answer async for answer in world.client.StreamLogs(request)]


async def test_streams_of_one_pod_are_few(world: World) -> None:
    await world.submit("one")
    agents = [await world.agent("one", 0) for _ in range(8)]
    # Each is superseded by a later one, or refused.
    ended = [await agent.ended() for agent in agents[:-1]]
    assert set(ended) <= {CODE.OK, CODE.RESOURCE_EXHAUSTED}


async def test_streams_that_do_not_say_whose_they_are_are_counted_with_their_pod(
    world: World,
) -> None:
    shown = (("authorization", f"Bearer {world.tokens.token('pod-1')}"),)
    stub = worker_service_pb2_grpc.WorkerServiceStub(world.workers_channel)
    streams = [stub.Connect(metadata=shown) for _ in range(5)]
    codes = [asyncio.create_task(stream.code()) for stream in streams]
    async with asyncio.timeout(BOUND_S):
        assert await next(asyncio.as_completed(codes)) is CODE.RESOURCE_EXHAUSTED
    assert sum(code.done() for code in codes) == 1
    for stream in streams:
        stream.cancel()
    await asyncio.wait(codes)
