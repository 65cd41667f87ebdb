"""A recording controller (a real gRPC server) and handles of real agents."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc.aio

from protos.taas.v1 import worker_service_pb2 as wire
from protos.taas.v1 import worker_service_pb2_grpc
from trainer import contract, procfs
from trainer.storage import JobPaths, source_archive

T = TypeVar("T")
# A bound for a loaded machine, not an expectation.
TIMEOUT_S = 90.0


def pack(files: dict[str, str]) -> bytes:
    """Return a source archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue())


def publish(storage: Path, archive: bytes) -> str:
    """Put an archive where agents look for it and return its digest."""
    digest = hashlib.sha256(archive).hexdigest()
    path = source_archive(storage, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(archive)
    return digest


def publish_files(storage: Path, files: dict[str, str]) -> str:
    """Pack files, put the archive where agents look for it, and return its digest."""
    return publish(storage, pack(files))


class Controller(worker_service_pb2_grpc.WorkerServiceServicer):
    """Writes down what agents say, and says what the test wants said."""

    def __init__(self, socket: Path) -> None:
        self.target = f"unix:{socket}"
        self.heard: list[wire.ConnectRequest] = []
        self.streams = 0
        self._orders: asyncio.Queue[wire.ConnectResponse] = asyncio.Queue()
        self._news = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Begin to serve, or begin again."""
        self._server = grpc.aio.server()
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.target)
        await self._server.start()

    async def stop(self) -> None:
        """End as a crash would: all streams break."""
        if self._server:
            await self._server.stop(None)
            self._server = None

    async def Connect(
        self,
        requests: AsyncIterator[wire.ConnectRequest],
        context: grpc.aio.ServicerContext,
    ) -> None:
        """Record until the agent hangs up."""
        self.streams += 1
        self._orders = asyncio.Queue()
        sender = asyncio.create_task(self._send(context))
        try:
            async for request in requests:
                async with self._news:
                    self.heard.append(request)
                    self._news.notify_all()
        finally:
            sender.cancel()

    async def _send(self, context: grpc.aio.ServicerContext) -> None:
        while True:
            await context.write(await self._orders.get())

    def order(self, **kind: object) -> None:
        """Send an order on the newest stream."""
        self._orders.put_nowait(wire.ConnectResponse(**kind))

    async def until(self, found: Callable[[list[wire.ConnectRequest]], T | None]) -> T:
        """Return the first true answer about all that was heard."""

        async def wait() -> T:
            async with self._news:
                while not (answer := found(self.heard)):
                    await self._news.wait()
                return answer

        try:
            return await asyncio.wait_for(wait(), TIMEOUT_S)
        except TimeoutError:
            kinds = [m.WhichOneof("kind") for m in self.heard]
            raise AssertionError(f"not heard in {TIMEOUT_S} s; heard {kinds[-50:]}") from None

    async def hello(self, number: int = 1) -> wire.Hello:
        """Return the n-th hello."""
        return await self.until(
            lambda heard: next(
                iter([m.hello for m in heard if m.HasField("hello")][number - 1 :]), None
            )
        )

    async def exited(self, generation: int) -> wire.Exited:
        """Return how a generation ended."""
        return await self.until(
            lambda heard: next(
                (
                    m.exited
                    for m in heard
                    if m.HasField("exited") and m.exited.generation == generation
                ),
                None,
            )
        )

    async def beat(self, wanted: Callable[[wire.Heartbeat], bool]) -> wire.Heartbeat:
        """Return the first heartbeat that is as wanted."""
        return await self.until(
            lambda heard: next(
                (m.heartbeat for m in heard if m.HasField("heartbeat") and wanted(m.heartbeat)),
                None,
            )
        )

    def log(self) -> bytes:
        """Return what has come of the log, and check that it has no gap."""
        data = b""
        chunks = [m.log for m in self.heard if m.HasField("log")]
        for chunk in chunks:
            assert chunk.offset == chunks[0].offset + len(data)
            data += chunk.data
        return data


@dataclass
class Worker:
    """A real agent, and where it keeps things."""

    process: asyncio.subprocess.Process
    storage: Path
    scratch: Path
    digest: str
    namespace: str = "team"
    job: str = "job"
    uid: str = "uid-1"

    @property
    def log_file(self) -> Path:
        """Where the worker's log is."""
        return JobPaths(self.storage, self.namespace, self.job, self.uid).log_file(1)

    def start(
        self,
        generation: int,
        do: str,
        *,
        digest: str | None = None,
        module: str = "task.py",
        env: dict[str, str] | None = None,
        cluster: tuple[str, ...] = ("127.0.0.1:1", "127.0.0.1:2"),
        position: int = 1,
        **parameters: str,
    ) -> wire.Start:
        """Return the order to start a generation of the fake trainer."""
        assignment = contract.Assignment(
            namespace=self.namespace,
            job=self.job,
            job_uid=self.uid,
            generation=generation,
            module=module,
            source_digest=self.digest if digest is None else digest,
            parameters={"do": do, **parameters},
            env=env or {},
        )
        return wire.Start(
            generation=generation,
            cluster=cluster,
            position=position,
            assignment=assignment.to_json(),
        )

    async def log_text(self, needle: str) -> str:
        """Return the log once it holds the needle."""

        async def wait() -> str:
            while True:
                text = self.log_file.read_text() if self.log_file.exists() else ""
                if needle in text:
                    return text
                await asyncio.sleep(0.02)

        return await asyncio.wait_for(wait(), TIMEOUT_S)

    async def number(self, label: str) -> int:
        """Return the number that the trainer printed behind a label."""
        text = await self.log_text(f"{label} ")
        line = next(line for line in text.splitlines() if line.startswith(f"{label} "))
        return int(line.split()[1])

    async def left(self) -> int:
        """Return the agent's exit code once it has left."""
        return await asyncio.wait_for(self.process.wait(), TIMEOUT_S)


def processes_of(pod_uid: str) -> list[int]:
    """Return all living processes that were started for a pod."""
    wanted = f"{contract.ENV_POD_UID}={pod_uid}".encode()
    found = []
    for pid in procfs.pids():
        try:
            env = Path(f"/proc/{pid}/environ").read_bytes()
            state = procfs.stat(pid)[procfs.STATE]
        except OSError:
            continue
        if wanted in env.split(b"\0") and state != "Z":
            found.append(pid)
    return found


async def all_gone(pod_uid: str) -> None:
    """Wait until no process of a pod is left."""

    async def wait() -> None:
        while processes_of(pod_uid):  # noqa: ASYNC110 - the kernel sends no event
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), TIMEOUT_S)


StartWorker = Callable[..., Awaitable[Worker]]


def facts(text: str) -> dict[str, object]:
    """Return what the fake trainer told of itself."""
    line = next(line for line in text.splitlines() if line.startswith("facts "))
    return dict(json.loads(line.removeprefix("facts ")))


async def zygote_of(agent: int) -> int:
    """Return the process id of an agent's zygote, once it has given itself its name."""

    async def wait() -> int:
        while True:
            for child in children_of(agent):
                if name_of(child) == "taas-zygote":
                    return child
            await asyncio.sleep(0.02)

    return await asyncio.wait_for(wait(), TIMEOUT_S)


def name_of(pid: int) -> str:
    """Return the name of a process, empty if there is none."""
    with contextlib.suppress(OSError):
        return procfs.name(pid)
    return ""


def children_of(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
