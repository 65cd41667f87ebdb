"""The Storage of claims that the controller does not mount: through their storage gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import grpc

from controller import wire
from controller.errors import ClusterUnavailable
from controller.gateway.connection import Connection
from controller.gateway.losses import check_lost
from controller.gateway.pool import ClaimMissing, GatewayPool, Lease
from controller.gateway.uploads import GatewaySourceWriter
from controller.local.storage import check_range
from controller.local.tree_files import check_listable
from controller.local.uploads import check_digest
from controller.model import Checkpoint, Job
from protos.taas.v1 import storage_service_pb2 as pb

_T = TypeVar("_T")

# Seconds that a call may take, of those that read and of those that walk and remove trees.
_READ_S = 30.0
_REMOVE_S = 300.0
# Added to that for all that a caller waits for besides: his turn, a start, a lost gateway.
_WAITING_S = 120.0
# How often a call begins again or goes on after its gateway was lost. A gateway that dies of
# what it is asked would die for ever.
_MOST_LOSSES = 5


class GatewayStorage:
    """The Storage over a pool of gateways. A read whose gateway dies goes on at another."""

    def __init__(self, pool: GatewayPool) -> None:
        self._pool = pool

    async def generations(self, job: Job) -> tuple[int, ...]:
        """Return the generations that have a record file, ascending."""
        request = pb.ListGenerationsRequest(job=_named(job))
        reply = await self._ask(job.key.namespace, _claim(job), "ListGenerations", request)
        return tuple(reply.generations)

    async def records(self, job: Job, generation: int, start: int, limit: int) -> Sequence[str]:
        """Return complete lines of a record file from that line number on; a torn last line
        is not there yet. Fewer than limit, if they are long."""
        lines: list[str] = []

        def rest() -> pb.ReadRecordsRequest:
            return pb.ReadRecordsRequest(
                job=_named(job),
                generation=generation,
                start=start + len(lines),
                limit=limit - len(lines),
            )

        def take(reply: pb.ReadRecordsResponse) -> None:
            lines.extend(reply.lines)
            _within(len(lines), limit)

        await self._read(job, "ReadRecords", rest, take)
        return lines

    async def read_log(self, job: Job, worker: int, offset: int, limit: int) -> tuple[int, bytes]:
        """Return at most limit bytes of a worker's log and where they begin: at the offset, or
        later if what was there is not kept. b"" at or past the end."""
        check_range(offset, limit)
        begin, data = offset, bytearray()

        def rest() -> pb.ReadLogRequest:
            return pb.ReadLogRequest(
                job=_named(job),
                worker=worker,
                offset=begin + len(data),
                limit=limit - len(data),
            )

        def take(reply: pb.ReadLogResponse) -> None:
            nonlocal begin
            if not data:
                begin = reply.offset
            if reply.offset == begin + len(data):
                data.extend(reply.data)
                _within(len(data), limit)

        await self._read(job, "ReadLog", rest, take)
        return begin, bytes(data)

    async def log_size(self, job: Job, worker: int) -> int:
        """Return the offset behind the newest byte of a worker's log, 0 if there is none."""
        request = pb.GetLogSizeRequest(job=_named(job), worker=worker)
        reply = await self._ask(job.key.namespace, _claim(job), "GetLogSize", request)
        return int(reply.size_bytes)

    async def checkpoints(self, job: Job) -> tuple[Checkpoint, ...]:
        """Return the committed checkpoints, newest first."""
        found: list[Checkpoint] = []

        def all_of_them() -> pb.ListStoredCheckpointsRequest:
            found.clear()
            return pb.ListStoredCheckpointsRequest(job=_named(job))

        def take(reply: pb.ListStoredCheckpointsResponse) -> None:
            found.extend(map(wire.checkpoint_from_wire, reply.checkpoints))
            check_listable(len(found), 0)

        await self._read(job, "ListStoredCheckpoints", all_of_them, take)
        return tuple(found)

    async def files(self, job: Job, checkpoint: str | None) -> tuple[tuple[str, int], ...]:
        """Return (path, bytes) of a checkpoint's files, or of the output folder for None, sorted.
        Raises JobNotFound for an unknown checkpoint."""
        found: list[tuple[str, int]] = []
        chars = 0

        def all_of_them() -> pb.ListStoredFilesRequest:
            nonlocal chars
            found.clear()
            chars = 0
            return pb.ListStoredFilesRequest(tree=_tree(job, checkpoint))

        def take(reply: pb.ListStoredFilesResponse) -> None:
            nonlocal chars
            found.extend((file.path, file.size_bytes) for file in reply.files)
            chars += sum(len(file.path) for file in reply.files)
            check_listable(len(found), chars)

        await self._read(job, "ListStoredFiles", all_of_them, take)
        return tuple(found)

    async def read_file(
        self, job: Job, checkpoint: str | None, path: str, offset: int, limit: int
    ) -> bytes:
        """Return at most limit bytes; b"" at the end. Raises JobNotFound for what is not a file
        below that tree: `..`, absolute paths and links are refused."""
        check_range(offset, limit)
        data = bytearray()

        def rest() -> pb.ReadStoredFileRequest:
            return pb.ReadStoredFileRequest(
                tree=_tree(job, checkpoint),
                path=path,
                offset=offset + len(data),
                limit=limit - len(data),
            )

        def take(reply: pb.ReadStoredFileResponse) -> None:
            data.extend(reply.data)
            _within(len(data), limit)

        await self._read(job, "ReadStoredFile", rest, take)
        return bytes(data)

    async def has_source(self, namespace: str, claim: str, digest: str) -> bool:
        """Say whether the archive of that digest is there, and keep it for the namespace."""
        check_digest(digest)
        request = pb.HasSourceRequest(namespace=namespace, digest=digest)
        return bool((await self._ask(namespace, claim, "HasSource", request)).found)

    def open_source(
        self, namespace: str, claim: str, digest: str, size: int
    ) -> GatewaySourceWriter:
        """Begin to receive an archive of that size in bytes. Raises InvalidJob."""
        check_digest(digest)
        header = pb.SourceHeader(namespace=namespace, digest=digest, size_bytes=size)
        return GatewaySourceWriter(self._pool, claim, header)

    async def delete_job(self, job: Job) -> None:
        """Remove all files of a job. Nothing happens if there are none, or if the claim is gone
        or being deleted, and they with it."""
        request = pb.DeleteStoredJobRequest(job=_named(job))
        with suppress(ClaimMissing):
            await self._ask(
                job.key.namespace, _claim(job), "DeleteStoredJob", request, limit_s=_REMOVE_S
            )

    async def collect_sources(self, namespace: str, claim: str, keep: frozenset[str]) -> None:
        """Remove source archives that are not in keep and were not touched for an hour. A claim
        that is gone has none."""
        request = pb.CollectSourcesRequest(namespace=namespace, keep=sorted(keep))
        with suppress(ClaimMissing):
            await self._ask(namespace, claim, "CollectSources", request, limit_s=_REMOVE_S)

    # --- Calls

    async def _ask(
        self, namespace: str, claim: str, method: str, request: Any, *, limit_s: float = _READ_S
    ) -> Any:
        """Make a call with one answer, again if its gateway is lost."""

        async def attempt(connection: Connection) -> Any:
            call = getattr(connection.stub, method)
            return await call(request, metadata=connection.metadata, timeout=limit_s)

        return await self._persist(namespace, claim, attempt, limit_s=limit_s)

    async def _read(
        self,
        job: Job,
        method: str,
        request: Callable[[], Any],
        take: Callable[[Any], None],
    ) -> None:
        """Make a call with a stream of answers, each of which is taken. When its gateway is lost,
        the next call is what the request then is: the rest, or all of it again."""

        async def attempt(connection: Connection) -> None:
            make = getattr(connection.stub, method)
            call = make(request(), metadata=connection.metadata, timeout=_READ_S)
            try:
                async for reply in call:
                    take(reply)
            finally:
                call.cancel()  # changes nothing when it has ended

        await self._persist(job.key.namespace, _claim(job), attempt, limit_s=_READ_S)

    async def _persist(
        self,
        namespace: str,
        claim: str,
        attempt: Callable[[Connection], Awaitable[_T]],
        *,
        limit_s: float,
    ) -> _T:
        """Make an attempt with a gateway, and more with others for as long as they are lost."""
        async with self._pool.lease(namespace, claim) as lease:
            try:
                async with asyncio.timeout(limit_s + _WAITING_S), lease.calls:
                    return await _attempts(lease, attempt)
            except TimeoutError as error:
                raise ClusterUnavailable(f"{lease} has too much to do; try again") from error


async def _attempts(lease: Lease, attempt: Callable[[Connection], Awaitable[_T]]) -> _T:
    for _ in range(_MOST_LOSSES):
        connection = await lease.connection()
        try:
            async with connection.used():
                return await attempt(connection)
        except grpc.aio.AioRpcError as error:
            await check_lost(lease, connection, error)
    raise ClusterUnavailable(
        f"{lease} was lost {_MOST_LOSSES} times during one call; its pod's log may say why"
    )


def _within(found: int, limit: int) -> None:
    """Raise ClusterUnavailable when more came than was asked for: whoever may change the pods of
    his namespace can make a gateway say anything."""
    if found > limit:
        raise ClusterUnavailable("a storage gateway sent more than it was asked for")


def _claim(job: Job) -> str:
    return job.spec.storage_claim


def _named(job: Job) -> pb.StoredJob:
    return pb.StoredJob(namespace=job.key.namespace, job=job.key.name, uid=job.uid)


def _tree(job: Job, checkpoint: str | None) -> pb.StoredTree:
    return pb.StoredTree(job=_named(job), checkpoint=checkpoint)
