"""Serves one claim: checks a request, asks the folder, answers in pieces that are not large."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeVar

from controller import wire
from controller.errors import InvalidJob
from controller.local.storage import FolderStorage, check_range
from controller.model import Job, JobKey, Spec, Task
from protos.taas.v1 import storage_service_pb2 as pb
from protos.taas.v1 import storage_service_pb2_grpc

# Bytes of one answer, more or less: what a call holds in memory here and at the caller.
CHUNK_BYTES = 256 * 1024
# Lines read at once, and their bytes in one answer to the caller. A record has a few hundred
# bytes; but the file lies where a user's program can write whatever it likes.
_MOST_RECORDS_BYTES = 4 * 1024 * 1024
_MOST_LINE_CHARS = 256 * 1024
# Rough bytes that an entry of a list needs besides its name.
_ENTRY_BYTES = 64

_T = TypeVar("_T")


class StorageService(storage_service_pb2_grpc.StorageServiceServicer):
    """The API of protos/taas/v1/storage_service.proto over a folder."""

    def __init__(self, storage: FolderStorage) -> None:
        self._storage = storage

    async def ListGenerations(
        self, request: pb.ListGenerationsRequest, context: Any
    ) -> pb.ListGenerationsResponse:
        """Return the generations that have records."""
        found = await self._storage.generations(_job(request.job))
        return pb.ListGenerationsResponse(generations=[n for n in found if n < 2**31])

    async def ReadRecords(
        self, request: pb.ReadRecordsRequest, context: Any
    ) -> AsyncIterator[pb.ReadRecordsResponse]:
        """Stream lines; fewer than were asked for when they are very long."""
        check_range(request.start, request.limit)
        lines = await self._storage.records(
            _job(request.job), request.generation, request.start, request.limit
        )
        total = 0
        for batch in _batches((line[:_MOST_LINE_CHARS] for line in lines), len):
            yield pb.ReadRecordsResponse(lines=batch)
            total += sum(map(len, batch))
            if total >= _MOST_RECORDS_BYTES:
                return

    async def ReadLog(
        self, request: pb.ReadLogRequest, context: Any
    ) -> AsyncIterator[pb.ReadLogResponse]:
        """Stream bytes of a log."""
        job = _job(request.job)

        async def read(offset: int, limit: int) -> tuple[int, bytes]:
            return await self._storage.read_log(job, request.worker, offset, limit)

        async with aclosing(_chunks(read, request.offset, request.limit)) as chunks:
            async for offset, data in chunks:
                yield pb.ReadLogResponse(offset=offset, data=data)

    async def GetLogSize(
        self, request: pb.GetLogSizeRequest, context: Any
    ) -> pb.GetLogSizeResponse:
        """Return the size of a log."""
        size = await self._storage.log_size(_job(request.job), request.worker)
        return pb.GetLogSizeResponse(size_bytes=size)

    async def ListStoredCheckpoints(
        self, request: pb.ListStoredCheckpointsRequest, context: Any
    ) -> AsyncIterator[pb.ListStoredCheckpointsResponse]:
        """Stream the committed checkpoints."""
        found = await self._storage.checkpoints(_job(request.job))
        for batch in _batches(found, lambda c: sum(len(name) + 16 for name, _ in c.metrics)):
            yield pb.ListStoredCheckpointsResponse(
                checkpoints=[wire.checkpoint_to_wire(checkpoint) for checkpoint in batch]
            )

    async def ListStoredFiles(
        self, request: pb.ListStoredFilesRequest, context: Any
    ) -> AsyncIterator[pb.ListStoredFilesResponse]:
        """Stream the files of a tree."""
        found = await self._storage.files(_job(request.tree.job), _checkpoint(request.tree))
        for batch in _batches(found, lambda entry: len(entry[0])):
            yield pb.ListStoredFilesResponse(
                files=[pb.StoredFile(path=path, size_bytes=size) for path, size in batch]
            )

    async def ReadStoredFile(
        self, request: pb.ReadStoredFileRequest, context: Any
    ) -> AsyncIterator[pb.ReadStoredFileResponse]:
        """Stream bytes of a file."""
        job, checkpoint = _job(request.tree.job), _checkpoint(request.tree)

        async def read(offset: int, limit: int) -> tuple[int, bytes]:
            path = request.path
            return offset, await self._storage.read_file(job, checkpoint, path, offset, limit)

        async with aclosing(_chunks(read, request.offset, request.limit)) as chunks:
            async for _, data in chunks:
                yield pb.ReadStoredFileResponse(data=data)

    async def HasSource(self, request: pb.HasSourceRequest, context: Any) -> pb.HasSourceResponse:
        """Say whether a source is there."""
        namespace = _plain(request.namespace, "namespace")
        return pb.HasSourceResponse(
            found=await self._storage.has_source(namespace, "", request.digest)
        )

    async def ReceiveSource(
        self, requests: AsyncIterator[pb.ReceiveSourceRequest], context: Any
    ) -> AsyncIterator[pb.ReceiveSourceResponse]:
        """Receive a source, answering each step once it is done."""
        first = await anext(requests, pb.ReceiveSourceRequest())
        if not first.HasField("header"):
            raise InvalidJob("header", "is missing; the first message names the source")
        header = first.header
        namespace = _plain(header.namespace, "header.namespace")
        writer = self._storage.open_source(namespace, "", header.digest, header.size_bytes)
        try:
            yield pb.ReceiveSourceResponse()
            async for request in requests:
                match request.WhichOneof("step"):
                    case "data":
                        await writer.write(request.data)
                    case "commit":
                        await writer.commit()
                    case "abort":
                        await writer.abort()
                    case other:
                        raise InvalidJob("step", f"is {other}; send data, commit or abort")
                yield pb.ReceiveSourceResponse()
        finally:
            await writer.abort()  # changes nothing after a commit

    async def DeleteStoredJob(
        self, request: pb.DeleteStoredJobRequest, context: Any
    ) -> pb.DeleteStoredJobResponse:
        """Remove the files of a job."""
        await self._storage.delete_job(_job(request.job))
        return pb.DeleteStoredJobResponse()

    async def CollectSources(
        self, request: pb.CollectSourcesRequest, context: Any
    ) -> pb.CollectSourcesResponse:
        """Remove sources that nobody uses."""
        namespace = _plain(request.namespace, "namespace")
        await self._storage.collect_sources(namespace, "", frozenset(request.keep))
        return pb.CollectSourcesResponse()


def _job(named: pb.StoredJob) -> Job:
    """Return what the folder needs of a job: its names."""
    key = JobKey(_plain(named.namespace, "job.namespace"), _plain(named.job, "job.job"))
    uid = _plain(named.uid, "job.uid")
    return Job(key=key, uid=uid, created=datetime.fromtimestamp(0, UTC), spec=Spec(Task(module="")))


def _plain(name: str, field: str) -> str:
    """Return a name that is to be a folder's, unless it leads anywhere else."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InvalidJob(field, f"{name[:80]!r} is no name; send the name as the cluster has it")
    return name


def _checkpoint(tree: pb.StoredTree) -> str | None:
    return tree.checkpoint if tree.HasField("checkpoint") else None


async def _chunks(
    read: Callable[[int, int], Awaitable[tuple[int, bytes]]], offset: int, limit: int
) -> AsyncGenerator[tuple[int, bytes], None]:
    """Yield what follows the offset and where it begins, piece by piece as it is taken, until
    there are so many bytes of it."""
    check_range(offset, limit)
    while True:
        # The first read also tells what is wrong with the request, when nothing is to be read.
        begin, data = await read(offset, min(CHUNK_BYTES, limit))
        if not data:
            return
        yield begin, data
        offset, limit = begin + len(data), limit - len(data)
        if not limit:
            return


def _batches(entries: Iterable[_T], size: Callable[[_T], int]) -> Iterator[list[_T]]:
    """Yield the entries in groups of about CHUNK_BYTES, each of at least one entry."""
    batch: list[_T] = []
    filled = 0
    for entry in entries:
        batch.append(entry)
        filled += _ENTRY_BYTES + size(entry)
        if filled >= CHUNK_BYTES:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch
