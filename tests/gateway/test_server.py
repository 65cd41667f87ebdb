"""The gateway's server: who may call it, and what it sends however large the claim is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controller.gateway.connection import channel_to
from controller.gateway.token import TokenFile, bearer
from controller.local.trees import remove_tree
from controller.model import Job
from protos.taas.v1 import storage_service_pb2 as pb
from protos.taas.v1 import storage_service_pb2_grpc
from tests.gateway.processes import BOUND_S, GatewayProcess, certificate_in
from trainer.storage import JobPaths

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One gateway for all tests of this file."""
    folder = tmp_path_factory.mktemp("gateway")
    process = GatewayProcess(folder / "storage", folder)
    yield process
    process.end()


@pytest.fixture
def root(process: GatewayProcess) -> Iterator[Path]:
    """Its claim, which each test finds empty."""
    yield process.root
    remove_tree(process.root)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway of a test's own."""
    own = GatewayProcess(tmp_path / "own", tmp_path)
    yield own
    own.end()


@pytest.fixture
async def channel(process: GatewayProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with channel_to(await process.gateway()) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return storage_service_pb2_grpc.StorageServiceStub(channel)


def named(job: Job) -> pb.StoredJob:
    return pb.StoredJob(namespace=job.key.namespace, job=job.key.name, uid=job.uid)


async def code(call: Any) -> grpc.StatusCode:
    """Return the code that a call ends with."""
    try:
        if isinstance(call, AsyncIterator):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return CODE.OK


def calls(stub: Any, metadata: Any, job: Job) -> dict[str, Any]:
    """Return a call of each kind of method."""
    tree = pb.StoredTree(job=named(job))
    size = pb.GetLogSizeRequest(job=named(job))
    return {
        "one": stub.GetLogSize(size, metadata=metadata, timeout=BOUND_S),
        "stream": aiter(
            stub.ListStoredFiles(
                pb.ListStoredFilesRequest(tree=tree), metadata=metadata, timeout=BOUND_S
            )
        ),
        # Sends nothing: a message that meets the refusal half-way is an error of its own.
        "both": stub.ReceiveSource(metadata=metadata, timeout=BOUND_S).read(),
    }


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param((), id="none"),
        pytest.param(bearer("wrong"), id="a wrong one"),
        pytest.param(bearer(""), id="an empty one"),
        pytest.param((("authorization", "Basic x"),), id="another scheme"),
    ],
)
async def test_nothing_is_told_without_the_token(stub: Any, job: Job, metadata: Any) -> None:
    for kind, call in calls(stub, metadata, job).items():
        assert await code(call) is CODE.UNAUTHENTICATED, kind


async def test_with_the_token_every_call_is_answered(
    stub: Any, process: GatewayProcess, job: Job
) -> None:
    metadata = bearer(process.secret)
    made = calls(stub, metadata, job)
    made.pop("both").close()
    for kind, call in made.items():
        assert await code(call) is CODE.OK, kind
    header = pb.SourceHeader(namespace="default", digest="a" * 64, size_bytes=1)
    upload = stub.ReceiveSource(metadata=metadata, timeout=BOUND_S)
    for step in (pb.ReceiveSourceRequest(header=header), pb.ReceiveSourceRequest(abort=True)):
        await upload.write(step)
        assert await upload.read() == pb.ReceiveSourceResponse()
    await upload.done_writing()
    assert await upload.code() is CODE.OK


async def test_nothing_is_said_in_the_clear(process: GatewayProcess, job: Job) -> None:
    address = (await process.gateway()).address
    async with grpc.aio.insecure_channel(address) as plain:
        stub = storage_service_pb2_grpc.StorageServiceStub(plain)
        request = pb.GetLogSizeRequest(job=named(job))
        assert await code(stub.GetLogSize(request, metadata=bearer(process.secret))) is (
            CODE.UNAVAILABLE
        )


async def test_another_listener_at_the_address_gets_no_token(
    process: GatewayProcess, own: GatewayProcess, job: Job
) -> None:
    other = await own.gateway()
    expected = replace(await process.gateway(), address=other.address)
    async with channel_to(expected) as channel:
        stub = storage_service_pb2_grpc.StorageServiceStub(channel)
        call = stub.GetLogSize(pb.GetLogSizeRequest(job=named(job)), metadata=bearer("x"))
        with pytest.raises(grpc.aio.AioRpcError, match="CERTIFICATE_VERIFY_FAILED"):
            await call


async def test_health_needs_no_token_but_no_wrong_one(
    channel: grpc.aio.Channel, process: GatewayProcess
) -> None:
    check = health_pb2_grpc.HealthStub(channel).Check
    for service in ("", "taas.v1.StorageService"):
        reply = await check(health_pb2.HealthCheckRequest(service=service), timeout=BOUND_S)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    request = health_pb2.HealthCheckRequest()
    assert await code(check(request, metadata=bearer(process.secret))) is CODE.OK
    assert await code(check(request, metadata=bearer("wrong"))) is CODE.UNAUTHENTICATED


async def test_a_new_token_counts_at_once(own: GatewayProcess, job: Job, tmp_path: Path) -> None:
    request = pb.GetLogSizeRequest(job=named(job))
    async with channel_to(await own.gateway()) as channel:
        stub = storage_service_pb2_grpc.StorageServiceStub(channel)

        async def taken(token: str) -> bool:
            return await code(stub.GetLogSize(request, metadata=bearer(token))) is CODE.OK

        assert await taken(own.secret)
        # As Kubernetes does it: another file takes the place of this one, of the same age and
        # length.
        age = os.stat(own.token)
        new = tmp_path / "new"
        new.write_text("n" * len(own.secret) + "\n")
        os.utime(new, ns=(age.st_atime_ns, age.st_mtime_ns))
        new.replace(own.token)
        assert not await taken(own.secret)
        assert await taken("n" * len(own.secret))
        own.token.unlink()
        assert not await taken("n" * len(own.secret))
        assert not await taken("")
        assert "no call is answered" in own.log
        own.token.write_text("back")
        assert await taken("back")


def test_an_empty_token_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    token = TokenFile(tmp_path / "token")
    for given in (None, "", "Bearer", "Bearer "):
        assert not token.accepts(given)


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_gateway_without_a_token_does_not_start(tmp_path: Path, content: str | None) -> None:
    token = tmp_path / "the-token"
    if content is not None:
        token.write_text(content)
    done = start(tmp_path, token, "127.0.0.1:0")
    assert done.returncode == 1
    assert "the-token" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    token = tmp_path / "the-token"
    token.write_text("secret")
    done = start(tmp_path, token, "192.0.2.1:5")
    assert done.returncode == 1
    assert "192.0.2.1:5: cannot be listened at" in done.stderr
    assert "Traceback" not in done.stderr


def start(root: Path, token: Path, listen: str) -> subprocess.CompletedProcess[str]:
    certificate, key, _ = certificate_in(root)
    options = [f"--root={root}", f"--token-file={token}", f"--listen={listen}"]
    options += [f"--certificate={certificate}", f"--key={key}", "--health=127.0.0.1:0"]
    command = [sys.executable, "-m", "controller.gateway", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b", "../../x"])
async def test_names_stay_names(
    stub: Any, process: GatewayProcess, job: Job, paths: JobPaths, name: str
) -> None:
    metadata = bearer(process.secret)
    kept = paths.output / "kept"
    kept.touch()
    for field in ("namespace", "job", "uid"):
        wrong = named(job)
        setattr(wrong, field, name)
        request = pb.DeleteStoredJobRequest(job=wrong)
        assert await code(stub.DeleteStoredJob(request, metadata=metadata)) is CODE.INVALID_ARGUMENT
    assert kept.exists()
    request = pb.HasSourceRequest(namespace=name, digest="a" * 64)
    assert await code(stub.HasSource(request, metadata=metadata)) is CODE.INVALID_ARGUMENT


# --- Large claims


async def test_many_files_come_in_several_messages(
    stub: Any, process: GatewayProcess, job: Job, paths: JobPaths
) -> None:
    names = sorted(f"{number:04}-" + "n" * 190 for number in range(5000))
    for name in names:
        (paths.output / name).touch()
    request = pb.ListStoredFilesRequest(tree=pb.StoredTree(job=named(job)))
    call = stub.ListStoredFiles(request, metadata=bearer(process.secret))
    messages = [reply async for reply in call]
    assert [file.path for reply in messages for file in reply.files] == names
    assert len(messages) > 2
    assert max(reply.ByteSize() for reply in messages) < 512 * 1024


async def test_lines_longer_than_any_record_are_cut(
    stub: Any, process: GatewayProcess, job: Job, paths: JobPaths
) -> None:
    paths.record_file(1).write_text("😀" * 3_000_000 + "\nshort\n" + "x" * 100 + "\n")
    request = pb.ReadRecordsRequest(job=named(job), generation=1, start=0, limit=1000)
    call = stub.ReadRecords(request, metadata=bearer(process.secret))
    messages = [reply async for reply in call]
    lines = [line for reply in messages for line in reply.lines]
    assert lines == ["😀" * 256 * 1024, "short", "x" * 100]


async def test_a_read_of_many_long_lines_gives_some_of_them(
    stub: Any, process: GatewayProcess, job: Job, paths: JobPaths
) -> None:
    paths.record_file(1).write_text(("x" * 200_000 + "\n") * 60)
    metadata, found = bearer(process.secret), 0
    while True:
        request = pb.ReadRecordsRequest(job=named(job), generation=1, start=found, limit=1000)
        call = stub.ReadRecords(request, metadata=metadata)
        lines = [line async for reply in call for line in reply.lines]
        if not lines:
            break
        assert len(lines) <= 25
        found += len(lines)
    assert found == 60


async def test_the_server_reads_no_faster_than_it_is_heard(
    stub: Any, process: GatewayProcess, job: Job, paths: JobPaths
) -> None:
    size = 400 * 1024 * 1024
    with (paths.output / "big").open("wb") as file:
        file.truncate(size)
    metadata = bearer(process.secret)
    tree = pb.StoredTree(job=named(job))
    request = pb.ReadStoredFileRequest(tree=tree, path="big", limit=size)
    call = stub.ReadStoredFile(request, metadata=metadata)
    first = await call.read()
    assert 0 < len(first.data) <= 256 * 1024
    for _ in range(200):  # others are answered meanwhile
        await stub.GetLogSize(pb.GetLogSizeRequest(job=named(job)), metadata=metadata)
    read = psutil.Process(process.process.pid).io_counters().read_chars
    assert read < size // 4
    call.cancel()
