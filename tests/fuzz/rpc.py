"""Every RPC of the controller and of a storage gateway, over real gRPC, with bytes as they come.

The first byte of an input chooses the method, the rest is the request. A stream of requests is
cut from it: each begins with a length of two bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc

from controller.gateway.service import StorageService
from controller.local.storage import FolderStorage
from controller.wire_errors import ErrorInterceptor
from protos.taas.v1 import (
    storage_service_pb2,
    storage_service_pb2_grpc,
    training_service_pb2,
    worker_service_pb2,
)
from tests.api.world import served
from tests.fuzz.engine import Target
from tests.fuzz.messages import fill, random_message

CODE = grpc.StatusCode
TRAINING = training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"]
WORKER = worker_service_pb2.DESCRIPTOR.services_by_name["WorkerService"]
STORAGE = storage_service_pb2.DESCRIPTOR.services_by_name["StorageService"]
_FAIR = {
    CODE.OK,
    CODE.INVALID_ARGUMENT,
    CODE.NOT_FOUND,
    CODE.ALREADY_EXISTS,
    CODE.FAILED_PRECONDITION,
    CODE.RESOURCE_EXHAUSTED,
    CODE.PERMISSION_DENIED,
    CODE.UNAUTHENTICATED,
}
# A stream that has nothing to say goes on; so long is listened.
_LISTEN_S = 0.05
_BOUND_S = 30.0


@dataclass(frozen=True, slots=True)
class Method:
    """A method and how it is called."""

    path: str
    request: Any
    many_requests: bool
    many_answers: bool


def methods(service: Any) -> tuple[Method, ...]:
    """Return the methods of a service's descriptor."""
    return tuple(
        Method(
            f"/{service.full_name}/{method.name}",
            method.input_type._concrete_class,
            method.client_streaming,
            method.server_streaming,
        )
        for method in service.methods
    )


class Calls:
    """Makes calls from another thread's event loop, with raw bytes."""

    def __init__(self, methods: tuple[Method, ...], folder: Path, world: Any) -> None:
        self._methods = methods
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stack = contextlib.AsyncExitStack()
        self._channels, self._metadata = self._do(self._stack.enter_async_context(world(folder)))

    def close(self) -> None:
        """End the service."""
        self._do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __call__(self, data: bytes) -> None:
        """Make the call that an input describes; its answer must be one of the contract's."""
        method = self._methods[data[0] % len(self._methods)] if data else self._methods[0]
        code, details = self._do(self._call(method, data[1:]))
        # What a client of gRPC makes of a refusal that comes while he still sends.
        cut = method.many_requests and details == "Internal error from Core"
        late = code is CODE.DEADLINE_EXCEEDED and method.many_answers
        assert code in _FAIR or cut or late, f"{method.path}: {code.name}: {details}"
        assert code is CODE.OK or late or details, f"{method.path}: {code.name} without a word"

    def make(self, random: Random) -> bytes:
        """Return a call with a random message, or several."""
        number = random.randrange(len(self._methods))
        method = self._methods[number]
        if not method.many_requests:
            message = random_message(random, method.request)
            if random.random() < 0.6:
                _name_what_is_there(random, message)
            return bytes([number]) + message.SerializeToString()
        parts = [random_message(random, method.request) for _ in range(random.randrange(1, 5))]
        if random.random() < 0.7:
            _name_what_is_there(random, parts[0])
        packed = [part.SerializeToString()[:65535] for part in parts]
        return bytes([number]) + b"".join(len(p).to_bytes(2, "big") + p for p in packed)

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_BOUND_S)

    async def _call(self, method: Method, data: bytes) -> tuple[grpc.StatusCode, str]:
        kind = "stream" if method.many_requests else "unary"
        kind += "_stream" if method.many_answers else "_unary"
        _, service, _ = method.path.split("/")
        call = getattr(self._channels[service], kind)(method.path)
        given = iter(_parts(data)) if method.many_requests else data
        timeout = _LISTEN_S if method.many_answers else _BOUND_S
        made = call(given, metadata=self._metadata, timeout=timeout)
        try:
            if method.many_answers:
                async for _ in made:
                    break
                else:
                    return await made.code(), await made.details()
                return CODE.OK, ""
            await made
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        finally:
            made.cancel()
        return CODE.OK, ""


def _parts(data: bytes) -> Iterator[bytes]:
    while data:
        length = int.from_bytes(data[:2], "big")
        yield data[2 : 2 + length]
        data = data[2 + length :]


def _name_what_is_there(random: Random, message: Any) -> None:
    """Let the names in a message be those of a job that exists, most of the time."""
    job = "namespaces/default/trainingJobs/mnist"
    names = {"name": job, "parent": job, "namespace": "default", "job": "mnist", "uid": "uid"}
    for descriptor in message.DESCRIPTOR.fields:
        if descriptor.name in names and descriptor.message_type is None:
            name = names[descriptor.name]
            if descriptor.name == "parent" and random.random() < 0.5:
                name = "namespaces/default"
            setattr(message, descriptor.name, name)
        elif descriptor.message_type is not None and not descriptor.is_repeated:
            inner = getattr(message, descriptor.name)
            if descriptor.containing_oneof is None or message.HasField(descriptor.name):
                _name_what_is_there(random, inner)
    if not message.DESCRIPTOR.fields:
        fill(random, message, 1)


# Where each service is reached, and what is sent with every call.
_Reached = tuple[dict[str, grpc.aio.Channel], Any]


@asynccontextmanager
async def _controller(folder: Path) -> AsyncIterator[_Reached]:
    async with served(folder) as world:
        await world.submit("mnist", workers=1)
        await world.pods("mnist", 1)
        (pod,) = await world.cluster.pods(await world.job("mnist"))
        token = world.tokens.token(pod.uid)
        channels = {TRAINING.full_name: world.channel, WORKER.full_name: world.workers_channel}
        yield channels, (("authorization", f"Bearer {token}"),)


@asynccontextmanager
async def _gateway(folder: Path) -> AsyncIterator[_Reached]:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    storage_service_pb2_grpc.add_StorageServiceServicer_to_server(
        StorageService(FolderStorage(folder / "claim")), server
    )
    address = f"unix:{folder}/gateway.sock"
    server.add_insecure_port(address)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield {STORAGE.full_name: channel}, ()
    finally:
        await server.stop(None)


@contextlib.contextmanager
def targets(folder: Path) -> Iterator[tuple[Target, ...]]:
    """Give the targets while their services run; the folder's path must be short."""
    with contextlib.ExitStack() as stack:
        controller = Calls((*methods(TRAINING), *methods(WORKER)), folder, _controller)
        stack.callback(controller.close)
        gateway = Calls(methods(STORAGE), folder, _gateway)
        stack.callback(gateway.close)
        yield tuple(
            Target(name, calls, (), seeds=_seeds(calls.make), make=calls.make)
            for name, calls in (("rpc", controller), ("gateway-rpc", gateway))
        )


def _seeds(make: Callable[[Random], bytes]) -> tuple[bytes, ...]:
    return tuple(make(Random(number)) for number in range(50))
