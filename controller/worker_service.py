"""Serves the agents' stream: listens to one agent and passes it its orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller import wire_workers
from controller.access.callers import worker_pod
from controller.errors import InvalidJob, JobNotFound, PermissionDenied
from controller.model import JobKey, MemberSeen
from controller.ports import Cluster, JobStore
from controller.workers import Connection, Workers
from protos.taas.v1 import worker_service_pb2 as pb
from protos.taas.v1 import worker_service_pb2_grpc


class WorkerService(worker_service_pb2_grpc.WorkerServiceServicer):
    """Serves the agents' stream. A worker is believed only for the pod that it lives in."""

    def __init__(
        self,
        workers: Workers,
        store: JobStore,
        cluster: Cluster,
        clock: Callable[[], datetime],
    ) -> None:
        self._workers = workers
        self._store = store
        self._cluster = cluster
        self._clock = clock

    async def Connect(
        self, requests: AsyncIterator[pb.ConnectRequest], context: Any
    ) -> AsyncIterator[pb.ConnectResponse]:
        """Listen to one agent and pass it its orders."""
        key, uid, member = await self._hello(await anext(requests, pb.ConnectRequest()))
        connection = self._workers.connect(key, uid, member)
        listening = asyncio.create_task(self._listen(requests, connection))
        cut = asyncio.create_task(connection.cut.wait())
        try:
            while True:
                order = asyncio.create_task(connection.orders.get())
                try:
                    await asyncio.wait({listening, cut, order}, return_when=asyncio.FIRST_COMPLETED)
                    if not order.done():
                        break
                    yield order.result()
                finally:
                    order.cancel()
            if listening.done():
                listening.result()
        finally:
            listening.cancel()
            cut.cancel()
            self._workers.disconnect(connection, self._clock())

    async def _hello(self, request: pb.ConnectRequest) -> tuple[JobKey, str, MemberSeen]:
        """Check that the caller is who it says: its token must be that of the job's pod of that
        index."""
        if request.WhichOneof("kind") != "hello":
            raise InvalidJob("hello", "is missing; an agent's first message says who it is")
        hello = request.hello
        if not worker_pod.get().is_of(hello.namespace, hello.pod_uid):
            raise PermissionDenied(
                f"the token is not that of pod {hello.pod_uid!r} of namespace {hello.namespace!r}; "
                "a worker speaks for itself alone"
            )
        key = JobKey(hello.namespace, hello.job)
        job = await self._store.get(key)
        pods = await self._cluster.pods(job) if job.uid == hello.job_uid else ()
        if not any(p.index == hello.index and p.uid == hello.pod_uid for p in pods):
            raise JobNotFound(
                f"worker {hello.index} of {key} in pod {hello.pod_uid!r}",
                "its pod was deleted or replaced, and the agent in it is of no more use",
            )
        return key, job.uid, wire_workers.member_from_hello(hello, self._clock())

    async def _listen(
        self, requests: AsyncIterator[pb.ConnectRequest], connection: Connection
    ) -> None:
        async for request in requests:
            if connection.cut.is_set():
                return
            now = self._clock()
            member = connection.member
            match request.WhichOneof("kind"):
                case "heartbeat":
                    heard = wire_workers.member_with_heartbeat(member, request.heartbeat, now)
                    self._workers.update(connection, heard)
                case "exited":
                    exited = wire_workers.exited_from_wire(request.exited, member.index, now)
                    heard = replace(member, running=0, exited=exited, heard=now)
                    self._workers.update(connection, heard)
                case "record":
                    self._take_record(connection, request, now)
                case "log":
                    chunk = request.log
                    # What nobody follows is not kept.
                    if connection.live.log_followers.get(member.index):
                        connection.live.add_log(member.index, chunk.offset, chunk.data)
                case other:
                    raise InvalidJob(str(other), "is not expected here; say hello once, first")

    def _take_record(
        self, connection: Connection, request: pb.ConnectRequest, now: datetime
    ) -> None:
        member = connection.member
        record = request.record
        if record.generation != member.running:
            return
        connection.live.add_record(record)
        heard = replace(member, heard=now)
        if record.HasField("checkpoint"):
            heard = replace(heard, checkpoint=wire_workers.checkpoint_of_worker(record.checkpoint))
        if record.HasField("progress"):
            heard = replace(heard, progress=wire_workers.progress_of_worker(record.progress))
        self._workers.update(connection, heard)
