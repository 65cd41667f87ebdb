"""A gateway dies in the middle: reads go on where they were, uploads fail and leave nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from controller.errors import ClusterUnavailable
from controller.gateway.pool import GatewayPool
from controller.gateway.storage import GatewayStorage
from controller.model import DEFAULT_CLAIM, Job
from tests.gateway.processes import GatewayProcess, ProcessPods, until
from trainer.storage import JobPaths

# Minutes of reading 200 MB files belong to `make test`.
pytestmark = pytest.mark.service

SIZE = 200 * 1024 * 1024
CHUNK = 512 * 1024
PLACE = ("default", DEFAULT_CLAIM)
DATA = os.urandom(3 * 1024 * 1024)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
async def storage(pods: ProcessPods) -> AsyncIterator[GatewayStorage]:
    async with GatewayPool(pods) as pool:
        yield GatewayStorage(pool)


@pytest.fixture
def big(paths: JobPaths) -> str:
    """A file of 200 MB; returns its digest."""
    digest = hashlib.sha256()
    with (paths.output / "big").open("wb") as file:
        for _ in range(SIZE // (1 << 20)):
            block = os.urandom(1 << 20)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def has_read(process: GatewayProcess) -> int:
    """Return how many bytes a process has read from files."""
    return int(psutil.Process(process.process.pid).io_counters().read_chars)


async def kill_when_it_has_read(process: GatewayProcess, size: int) -> None:
    await process.gateway()
    before = has_read(process)
    await until(lambda: has_read(process) > before + size)
    assert has_read(process) < before + SIZE
    process.end()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_download_goes_on_at_its_offset(
    storage: GatewayStorage, pods: ProcessPods, job: Job, big: str, how: signal.Signals
) -> None:
    digest, offset = hashlib.sha256(), 0
    while data := await storage.read_file(job, None, "big", offset, CHUNK):
        digest.update(data)
        offset += len(data)
        if offset in (SIZE // 4, SIZE // 2):
            pods.running[PLACE].end(how)
    assert (offset, digest.hexdigest()) == (SIZE, big)
    assert pods.started == 3


async def test_a_gateway_that_dies_between_two_messages_of_a_read_is_not_noticed(
    storage: GatewayStorage, pods: ProcessPods, job: Job, big: str
) -> None:
    async def kill() -> None:
        await until(lambda: PLACE in pods.running)
        await kill_when_it_has_read(pods.running[PLACE], SIZE // 4)

    async with asyncio.TaskGroup() as group:
        group.create_task(kill())
        data = await storage.read_file(job, None, "big", 0, 2 * SIZE)
    assert hashlib.sha256(data).hexdigest() == big
    assert pods.started == 2
    # What had arrived was not read again.
    assert has_read(pods.running[PLACE]) < SIZE


async def test_many_reads_survive_one_death_together(
    storage: GatewayStorage, pods: ProcessPods, job: Job, paths: JobPaths
) -> None:
    paths.record_file(1).write_text("line\n" * 5000)
    paths.log_file(0).write_bytes(b"x" * 1000)
    await storage.log_size(job, 0)
    pods.running[PLACE].end()
    async with asyncio.TaskGroup() as group:
        records = [group.create_task(storage.records(job, 1, 0, 5000)) for _ in range(20)]
        logs = [group.create_task(storage.read_log(job, 0, 0, 5000)) for _ in range(20)]
        files = group.create_task(storage.files(job, None))
    assert {len(task.result()) for task in records} == {5000}
    assert {task.result() for task in logs} == {(0, b"x" * 1000)}
    assert files.result() == ()
    assert pods.started == 2


async def test_a_gateway_that_dies_of_every_call_is_given_up(
    storage: GatewayStorage, pods: ProcessPods, job: Job, big: str
) -> None:
    async def kill_all() -> None:
        while True:
            await until(lambda: PLACE in pods.running and pods.running[PLACE].runs())
            await kill_when_it_has_read(pods.running[PLACE], SIZE // 20)

    async with asyncio.TaskGroup() as group:
        killing = group.create_task(kill_all())
        with pytest.raises(ClusterUnavailable, match="was lost 5 times during one call"):
            await storage.read_file(job, None, "big", 0, SIZE)
        killing.cancel()
    assert pods.started == 5


# --- Uploads


def parts(root: Path) -> list[Path]:
    return [path for path in root.rglob(".tmp-*") if path.is_file()]


async def test_an_upload_whose_gateway_dies_is_an_error_and_can_be_repeated(
    storage: GatewayStorage, pods: ProcessPods
) -> None:
    writer = storage.open_source(*PLACE, DIGEST, len(DATA))
    await writer.write(DATA[:100])
    pods.running[PLACE].end()
    with pytest.raises(ClusterUnavailable, match="send the source again"):
        await writer.write(DATA[100:])
    await writer.abort()
    assert not await storage.has_source(*PLACE, DIGEST)
    again = storage.open_source(*PLACE, DIGEST, len(DATA))
    await again.write(DATA)
    await again.commit()
    assert await storage.has_source(*PLACE, DIGEST)


async def test_an_upload_begins_with_a_living_gateway(
    storage: GatewayStorage, pods: ProcessPods, job: Job
) -> None:
    await storage.log_size(job, 0)
    pods.running[PLACE].end()
    writer = storage.open_source(*PLACE, DIGEST, len(DATA))
    await writer.write(DATA)
    await writer.commit()
    assert await storage.has_source(*PLACE, DIGEST)


async def test_a_gateway_that_is_told_to_stop_drops_unfinished_uploads(
    storage: GatewayStorage, pods: ProcessPods, root: Path
) -> None:
    writer = storage.open_source(*PLACE, DIGEST, len(DATA))
    await writer.write(DATA[:100])
    assert parts(root)
    assert pods.running[PLACE].end(signal.SIGTERM) == 0
    assert parts(root) == []
    await writer.abort()


async def test_a_cancelled_upload_leaves_nothing(
    storage: GatewayStorage, pods: ProcessPods, root: Path
) -> None:
    writer = storage.open_source(*PLACE, DIGEST, SIZE)

    async def upload() -> None:
        try:
            while True:
                await writer.write(DATA)
        finally:
            await writer.abort()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(upload())
        await until(lambda: parts(root))
        task.cancel()
    await until(lambda: not parts(root))
    assert not await storage.has_source(*PLACE, DIGEST)


async def test_an_upload_of_a_controller_that_is_gone_leaves_nothing(
    pods: ProcessPods, root: Path
) -> None:
    async with GatewayPool(pods) as pool:
        writer = GatewayStorage(pool).open_source(*PLACE, DIGEST, len(DATA))
        await writer.write(DATA[:100])
        assert parts(root)
        await writer._held.aclose()  # as when the process ends: no word to the gateway
    await until(lambda: not parts(root))
