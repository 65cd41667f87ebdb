"""Who is let in, over real gRPC: nobody unknown, nobody without the right, never unchecked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import taas
from controller.access.callers import Action, Caller, PodIdentity, Verdict
from controller.access.certificates import Shown, make, make_authority
from controller.access.guard import Guard
from controller.access.rules import RULES
from controller.access.turns import Turns
from controller.limits import CallLimits
from controller.server import Listener
from controller.wire_errors import ErrorInterceptor
from protos.taas.v1 import history_pb2, job_pb2, training_service_pb2_grpc, worker_service_pb2_grpc
from protos.taas.v1 import training_service_pb2 as pb
from tests.api.world import BOUND_S, NAMESPACE, Agent, World, archive, create_request, job_name
from tests.api.world import served as world_served
from tests.fakes import FakeAccess

CODE = grpc.StatusCode
EVERYTHING = [
    ("create", ""),
    ("get", ""),
    ("list", ""),
    ("watch", ""),
    ("update", ""),
    ("delete", ""),
    ("update", "scale"),
    ("get", "log"),
    ("get", "files"),
    ("create", "source"),
]


@pytest.fixture
def access() -> FakeAccess:
    """Ada may do everything in namespace default; Bob is known and may do nothing."""
    access = FakeAccess()
    access.callers = {"ada's": Caller("ada"), "bob's": Caller("bob")}
    access.rights = {("ada", verb, "default", subresource) for verb, subresource in EVERYTHING}
    return access


@pytest.fixture
async def world(folder: Path, access: FakeAccess) -> AsyncIterator[World]:
    async with world_served(folder, access=access) as world:
        yield world


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


def requests() -> Iterator[tuple[str, Any]]:
    """Yield every call of a client with a request for a job that is not there."""
    job = job_name("mnist")
    artifact = pb.Artifact(output=True)
    yield "CreateTrainingJob", create_request("mnist")
    yield "GetTrainingJob", pb.GetTrainingJobRequest(name=job)
    yield "ListTrainingJobs", pb.ListTrainingJobsRequest(parent=NAMESPACE)
    yield "WatchTrainingJob", pb.WatchTrainingJobRequest(name=job)
    yield "StreamLogs", pb.StreamLogsRequest(name=job)
    yield "ScaleTrainingJob", pb.ScaleTrainingJobRequest(name=job, workers=1)
    yield "SuspendTrainingJob", pb.SuspendTrainingJobRequest(name=job)
    yield "ResumeTrainingJob", pb.ResumeTrainingJobRequest(name=job)
    yield "CancelTrainingJob", pb.CancelTrainingJobRequest(name=job)
    yield "DeleteTrainingJob", pb.DeleteTrainingJobRequest(name=job)
    yield "ListCheckpoints", pb.ListCheckpointsRequest(parent=job)
    yield "ListFiles", pb.ListFilesRequest(parent=job, artifact=artifact)
    yield "DownloadFile", pb.DownloadFileRequest(parent=job, artifact=artifact, path="x")
    yield "UploadSource", upload("default")
    yield "GetServiceInfo", pb.GetServiceInfoRequest()


def upload(namespace: str) -> list[pb.UploadSourceRequest]:
    data, source = archive()
    header = pb.UploadSourceHeader(parent=f"namespaces/{namespace}", source=source)
    return [pb.UploadSourceRequest(header=header), pb.UploadSourceRequest(data=data)]


async def code(stub: Any, method: str, request: Any, token: str) -> grpc.StatusCode:
    """Return how a call ends, reading all its answers."""
    given = iter(request) if isinstance(request, list) else request
    call = getattr(stub, method)(given, metadata=bearer(token), timeout=BOUND_S)
    try:
        if isinstance(call, grpc.aio.UnaryStreamCall):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return CODE.OK


async def test_every_call_wants_a_token_and_the_right(world: World) -> None:
    every = dict(requests())
    methods = {m.rpartition("/")[2] for m in RULES if "TrainingService" in m}
    assert set(every) == methods
    for method, request in every.items():
        for token in ("", "nobody's"):
            assert await code(world.client, method, request, token) is CODE.UNAUTHENTICATED, method
        bobs = await code(world.client, method, request, "bob's")
        assert bobs is (CODE.OK if method == "GetServiceInfo" else CODE.PERMISSION_DENIED), method
    assert await world.store.keys() == ()
    assert not (world.root / "sources").exists()


async def test_whoever_has_the_right_gets_what_he_asks_for(world: World) -> None:
    await world.client.UploadSource(iter(upload("default")), metadata=bearer("ada's"))
    await world.client.CreateTrainingJob(create_request("mnist"), metadata=bearer("ada's"))
    for method in ("GetTrainingJob", "SuspendTrainingJob", "ListFiles", "DeleteTrainingJob"):
        request = dict(requests())[method]
        assert await code(world.client, method, request, "ada's") is CODE.OK, method


async def test_a_right_is_for_its_namespace_and_its_subresource(
    world: World, access: FakeAccess
) -> None:
    other = "namespaces/other/trainingJobs/mnist"
    for method, request in [
        ("GetTrainingJob", pb.GetTrainingJobRequest(name=other)),
        ("ListTrainingJobs", pb.ListTrainingJobsRequest(parent="namespaces/-")),
        ("UploadSource", upload("other")),
    ]:
        assert await code(world.client, method, request, "ada's") is CODE.PERMISSION_DENIED
    access.rights.discard(("ada", "get", "default", "files"))
    for method in ("ListFiles", "DownloadFile", "ListCheckpoints"):
        request = dict(requests())[method]
        assert await code(world.client, method, request, "ada's") is CODE.PERMISSION_DENIED


async def test_nobody_is_let_in_unchecked_while_the_cluster_is_away(
    world: World, access: FakeAccess
) -> None:
    access.away = True
    for method, request in requests():
        assert await code(world.client, method, request, "ada's") is CODE.UNAVAILABLE, method


async def test_health_is_for_everybody_and_reflection_is_not(world: World) -> None:
    health = health_pb2_grpc.HealthStub(world.channel)
    reply = await health.Check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    assert await code(health, "Watch", health_pb2.HealthCheckRequest(), "") is CODE.UNAUTHENTICATED
    watch = health.Watch(health_pb2.HealthCheckRequest(), metadata=bearer("bob's"))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    reflection = reflection_pb2_grpc.ServerReflectionStub(world.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    call = reflection.ServerReflectionInfo(iter([asked]), metadata=bearer("bob's"))
    names = {s.name for s in (await call.read()).list_services_response.service}
    assert "taas.v1.TrainingService" in names
    refused = reflection.ServerReflectionInfo(iter([asked]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await refused.read()
    assert caught.value.code() is CODE.UNAUTHENTICATED


async def test_a_call_without_a_rule_is_nobodys(folder: Path, access: FakeAccess) -> None:
    async def answer(request: Any, context: Any) -> bytes:
        raise AssertionError("it was let through")

    server = grpc.aio.server(interceptors=[ErrorInterceptor(), Guard(access, Turns(CallLimits()))])
    handlers = {"New": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("taas.v1.TrainingService", handlers),)
    )
    server.add_insecure_port(f"unix:{folder}/guarded.sock")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/guarded.sock") as channel:
            call = channel.unary_unary("/taas.v1.TrainingService/New")(
                b"", metadata=bearer("ada's")
            )
            assert await call.code() is CODE.PERMISSION_DENIED
            assert "nobody may call" in (await call.details() or "")
    finally:
        await server.stop(None)


class Telling(training_service_pb2_grpc.TrainingServiceServicer):
    """Tells a watcher of one event each time the test lets it, and takes uploads."""

    def __init__(self) -> None:
        self.happened: asyncio.Queue[str] = asyncio.Queue()
        self.arrived = asyncio.Event()

    async def WatchTrainingJob(
        self, request: pb.WatchTrainingJobRequest, context: Any
    ) -> AsyncIterator[pb.WatchTrainingJobResponse]:
        while True:
            cursor = await self.happened.get()
            yield pb.WatchTrainingJobResponse(event=history_pb2.Event(cursor=cursor))

    async def UploadSource(
        self, requests: AsyncIterator[pb.UploadSourceRequest], context: Any
    ) -> job_pb2.Source:
        async for _ in requests:
            self.arrived.set()
        return job_pb2.Source()


class TeamAccess(FakeAccess):
    """Lets everybody of one group do everything, and nobody else anything."""

    async def verdict(self, caller: Caller, action: Action) -> Verdict:
        self._ask()
        return Verdict("team" in caller.groups)


@asynccontextmanager
async def telling_to(folder: Path, access: FakeAccess) -> AsyncIterator[tuple[Telling, Any]]:
    """Serve streams whose token and right are asked for again with each message."""
    telling = Telling()
    guard = Guard(access, Turns(CallLimits()), recheck_s=0)
    server = grpc.aio.server(interceptors=[ErrorInterceptor(), guard])
    training_service_pb2_grpc.add_TrainingServiceServicer_to_server(telling, server)
    server.add_insecure_port(f"unix:{folder}/guarded.sock")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder}/guarded.sock") as channel:
            yield telling, training_service_pb2_grpc.TrainingServiceStub(channel)
    finally:
        await server.stop(None)


@asynccontextmanager
async def watching(folder: Path, access: FakeAccess) -> AsyncIterator[tuple[Telling, Any]]:
    """Give ada an open watch that has told her of one event."""
    async with telling_to(folder, access) as (telling, stub):
        request = pb.WatchTrainingJobRequest(name=job_name("mnist"))
        call = stub.WatchTrainingJob(request, metadata=bearer("ada's"), timeout=BOUND_S)
        telling.happened.put_nowait("first")
        assert (await call.read()).event.cursor == "first"
        yield telling, call


async def ended(telling: Telling, call: Any) -> grpc.StatusCode:
    """Let something happen that a watcher may not be told, and return how the watch ends."""
    telling.happened.put_nowait("not for her")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return caught.value.code()


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        pytest.param(lambda a: a.callers.clear(), CODE.UNAUTHENTICATED, id="token"),
        pytest.param(
            lambda a: a.callers.update({"ada's": Caller("ada")}), CODE.PERMISSION_DENIED, id="group"
        ),
        pytest.param(lambda a: setattr(a, "away", True), CODE.UNAVAILABLE, id="nobody to ask"),
    ],
)
async def test_an_open_stream_ends_when_what_opened_it_is_taken_away(
    folder: Path, change: Callable[[FakeAccess], None], ends: grpc.StatusCode
) -> None:
    access = TeamAccess()
    access.callers = {"ada's": Caller("ada", groups=("team",))}
    async with watching(folder, access) as (telling, call):
        change(access)
        assert await ended(telling, call) is ends


async def test_an_open_stream_ends_when_the_right_is_taken_away(
    folder: Path, access: FakeAccess
) -> None:
    async with watching(folder, access) as (telling, call):
        access.rights.discard(("ada", "watch", "default", ""))
        assert await ended(telling, call) is CODE.PERMISSION_DENIED


async def test_an_upload_ends_when_its_token_is_taken_away(
    folder: Path, access: FakeAccess
) -> None:
    async with telling_to(folder, access) as (telling, stub):
        call = stub.UploadSource(metadata=bearer("ada's"), timeout=BOUND_S)
        header, data = upload("default")
        await call.write(header)
        await asyncio.wait_for(telling.arrived.wait(), BOUND_S)
        access.callers.clear()
        await call.write(data)
        assert await call.code() is CODE.UNAUTHENTICATED


async def test_an_open_stream_goes_on_while_its_token_is_good(
    folder: Path, access: FakeAccess
) -> None:
    async with watching(folder, access) as (telling, call):
        for cursor in ("second", "third"):
            before = access.questions
            telling.happened.put_nowait(cursor)
            assert (await call.read()).event.cursor == cursor
            # Whose the token is, and whether he may.
            assert access.questions == before + 2


async def test_a_workers_token_opens_no_other_door(world: World, access: FakeAccess) -> None:
    access.pods = {"pod's": PodIdentity("pod-uid-1", "default")}
    for method, request in requests():
        assert await code(world.client, method, request, "pod's") is CODE.UNAUTHENTICATED
    stub = worker_service_pb2_grpc.WorkerServiceStub(world.workers_channel)
    call = stub.Connect(metadata=bearer("ada's"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is CODE.UNAUTHENTICATED


async def test_callers_and_workers_have_doors_of_their_own(
    world: World, access: FakeAccess
) -> None:
    access.pods = {"pod's": PodIdentity("pod-uid-1", "default")}
    workers = training_service_pb2_grpc.TrainingServiceStub(world.workers_channel)
    for method, request in requests():
        assert await code(workers, method, request, "ada's") is CODE.UNIMPLEMENTED
    stub = worker_service_pb2_grpc.WorkerServiceStub(world.channel)
    assert await stub.Connect(metadata=bearer("pod's")).code() is CODE.UNIMPLEMENTED


async def test_a_worker_speaks_for_its_own_job_alone(world: World, access: FakeAccess) -> None:
    ada = bearer("ada's")
    await world.client.UploadSource(iter(upload("default")), metadata=ada)
    for name in ("one", "two"):
        await world.client.CreateTrainingJob(create_request(name), metadata=ada)
        await world.pods(name, 1)
    (own,), (other,) = [await world.cluster.pods(await world.job(name)) for name in ("one", "two")]
    access.pods = {
        "one's": PodIdentity(own.uid, "default"),
        "elsewhere's": PodIdentity(own.uid, "elsewhere"),
    }
    for job, pod, token, wanted in [
        ("two", other.uid, "one's", CODE.PERMISSION_DENIED),
        ("two", own.uid, "one's", CODE.NOT_FOUND),
        ("one", own.uid, "elsewhere's", CODE.PERMISSION_DENIED),
    ]:
        agent = Agent(world, await world.job(job), 0, pod)
        await agent.call(token=token)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agent.stream.read()
        assert caught.value.code() is wanted
    agent = Agent(world, await world.job("one"), 0, own.uid)
    await agent.call(token="one's")
    await agent.order("start")


# --- Over a network


async def test_over_a_network_clients_see_a_certificate_and_show_a_token(
    folder: Path, access: FakeAccess
) -> None:
    now = datetime.now(UTC)
    authority = make_authority("test", now=now, days=1)
    shown = Shown(make(authority, ["taas.test"], now=now, days=1))
    (folder / "ca").write_bytes(authority.certificate)
    (folder / "token").write_text("ada's\n")
    listener = Listener("127.0.0.1:0", shown.credentials())

    def ask(target: str, **given: Any) -> str:
        with taas.Client(target, access=taas.Access(**given), retry_for_s=0) as client:
            return str(client.service_info().version)

    async def refused(target: str, kind: type[taas.TaasError], **given: Any) -> str:
        with pytest.raises(kind) as caught:
            await asyncio.to_thread(ask, target, **given)
        return str(caught.value)

    async with world_served(folder, access=access, listener=listener) as world:
        target, good = world.address, {"ca_file": folder / "ca", "server_name": "taas.test"}
        token_file = folder / "token"
        assert await asyncio.to_thread(ask, target, token_file=token_file, **good) == "0"
        assert await asyncio.to_thread(ask, target, token="bob's", **good) == "0"
        assert "no" in await refused(target, taas.Unauthenticated, **good)
        assert "TAAS_CA_FILE" in await refused(target, taas.ServiceUnavailable, token="ada's")
        text = await refused(target, taas.ServiceUnavailable, ca_file=folder / "ca")
        assert "TAAS_SERVER_NAME" in text
        text = await refused(target, taas.InvalidRequest, token_file=folder / "none", **good)
        assert "none cannot be read" in text
        async with grpc.aio.insecure_channel(target) as plain:
            stub = training_service_pb2_grpc.TrainingServiceStub(plain)
            assert await code(stub, "GetServiceInfo", pb.GetServiceInfoRequest(), "ada's") is (
                CODE.UNAVAILABLE
            )


# --- Floods


async def test_streams_of_one_caller_leave_room_for_others(
    folder: Path, access: FakeAccess
) -> None:
    request = health_pb2.HealthCheckRequest()
    async with world_served(folder, access=access, calls=CallLimits(streams=3)) as world:
        health = health_pb2_grpc.HealthStub(world.channel)
        held = [health.Watch(request, metadata=bearer("ada's")) for _ in range(3)]
        for stream in held:
            await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Watch(request, metadata=bearer("ada's")).read()
        assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
        assert "ada has 3 streams open, the most are 3" in (caught.value.details() or "")
        bobs = health.Watch(request, metadata=bearer("bob's"))
        assert (await bobs.read()).status == health_pb2.HealthCheckResponse.SERVING
        for stream in (*held, bobs):
            stream.cancel()
