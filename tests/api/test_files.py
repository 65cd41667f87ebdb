"""Sources in, files out: in pieces, from any offset, and never from outside the job's folder."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from controller.model import DEFAULT_CLAIM
from protos.taas.v1 import job_pb2
from protos.taas.v1 import training_service_pb2 as pb
from tests.api.world import NAMESPACE, World, archive, job_name
from trainer.storage import JobPaths


async def code_of(call: Any) -> grpc.StatusCode:
    """Return the code that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return caught.value.code()


async def output(world: World, job_id: str = "one") -> JobPaths:
    """Submit a job and give it output."""
    await world.submit(job_id)
    job = await world.job(job_id)
    paths = JobPaths(world.root, job.key.namespace, job.key.name, job.uid)
    (paths.output / "model").mkdir(parents=True)
    (paths.output / "model" / "weights").write_bytes(bytes(range(256)) * 8192)
    (paths.output / "notes.txt").write_text("hello")
    return paths


async def download(world: World, path: str, offset: int = 0, **artifact: Any) -> bytes:
    """Download a file of the output."""
    kind = pb.Artifact(**(artifact or {"output": True}))
    request = pb.DownloadFileRequest(
        parent=job_name("one"), artifact=kind, path=path, offset=offset
    )
    call = world.client.DownloadFile(request)
    data = b""
    while (response := await call.read()) is not grpc.aio.EOF:
        data += response.data
    return data


async def test_files_are_listed_and_downloaded_from_any_offset(world: World) -> None:
    paths = await output(world)
    request = pb.ListFilesRequest(parent=job_name("one"), artifact=pb.Artifact(output=True))
    listed = await world.client.ListFiles(request)
    assert [(f.path, f.size_bytes) for f in listed.files] == [
        ("model/weights", 2097152),
        ("notes.txt", 5),
    ]
    whole = (paths.output / "model" / "weights").read_bytes()
    assert await download(world, "model/weights") == whole
    assert await download(world, "model/weights", offset=1_000_001) == whole[1_000_001:]
    assert await download(world, "notes.txt", offset=5) == b""


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "model", "", "gone", "a\0b", "link"])
async def test_what_is_no_file_of_the_job_is_not_found(world: World, path: str) -> None:
    paths = await output(world)
    (paths.output / "link").symlink_to("/etc/passwd")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await download(world, path)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert (caught.value.details() or "").endswith("ListFiles names those that do")


async def test_an_artifact_and_an_offset_are_checked(world: World) -> None:
    await output(world)
    client = world.client
    request = pb.ListFilesRequest(parent=job_name("one"))
    assert await code_of(client.ListFiles(request)) is grpc.StatusCode.INVALID_ARGUMENT
    request = pb.ListFilesRequest(parent=job_name("one"), artifact=pb.Artifact(checkpoint="x"))
    assert await code_of(client.ListFiles(request)) is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await download(world, "notes.txt", offset=-1)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_source_is_stored_once_and_may_be_sent_again(world: World) -> None:
    data, source = archive()
    assert await world.upload(data, source) == source
    assert await world.upload(data, source) == source
    assert await world.storage.has_source("default", DEFAULT_CLAIM, source.digest)


@pytest.mark.parametrize(
    ("data", "change"),
    [
        pytest.param(b"short", {}, id="less than announced"),
        pytest.param(b"x" * 5000, {}, id="more than announced"),
        pytest.param(None, {"digest": "0" * 64}, id="another digest"),
        pytest.param(None, {"digest": "../../etc"}, id="a digest that is none"),
        pytest.param(None, {"size_bytes": 0}, id="no size"),
    ],
)
async def test_a_source_that_is_not_what_it_says_leaves_nothing(
    world: World, data: bytes | None, change: dict[str, Any]
) -> None:
    good, source = archive()
    wrong = job_pb2.Source(digest=source.digest, size_bytes=source.size_bytes)
    for name, value in change.items():
        setattr(wrong, name, value)
    code = await code_of(world.upload(good if data is None else data, wrong))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert not [p for p in world.root.rglob("*") if p.is_file()]


async def test_a_source_beyond_the_limit_is_refused_before_it_is_sent(world: World) -> None:
    _, source = archive()
    huge = job_pb2.Source(digest=source.digest, size_bytes=3 * 1024**3)
    code = await code_of(world.upload(b"x", huge))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_upload_that_breaks_off_leaves_nothing(world: World) -> None:
    data, source = archive()

    async def pieces() -> AsyncIterator[pb.UploadSourceRequest]:
        header = pb.UploadSourceHeader(parent=NAMESPACE, source=source)
        yield pb.UploadSourceRequest(header=header, data=data[:10])
        raise ConnectionError("the client's disk is gone")

    with pytest.raises((grpc.aio.AioRpcError, ConnectionError, asyncio.CancelledError)):
        await world.client.UploadSource(pieces())
    assert not await world.storage.has_source("default", DEFAULT_CLAIM, source.digest)


async def test_an_upload_without_a_header_is_refused(world: World) -> None:
    async def pieces() -> AsyncIterator[pb.UploadSourceRequest]:
        yield pb.UploadSourceRequest(data=b"x")

    code = await code_of(world.client.UploadSource(pieces()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT

    async def nothing() -> AsyncIterator[pb.UploadSourceRequest]:
        return
        yield

    code = await code_of(world.client.UploadSource(nothing()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
