"""Watchers and readers of logs ask the storage only when it may have more than they were told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import json_format

from controller.cursors import LogCursor, WatchCursor
from controller.errors import JobNotFound
from controller.history import History
from controller.live import Live
from controller.local.storage import FolderStorage
from controller.logs import Logs
from controller.model import Job, LogEntry, Phase, StateChange, Status
from controller.workers import Workers
from protos.taas.v1 import history_pb2, job_pb2
from tests.builders import T0, idle, running
from tests.contracts.jobs import a_job
from tests.fakes import FakeStore
from trainer.storage import JobPaths


class CountingStorage(FolderStorage):
    """A folder that notes what is read of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[str] = []

    async def generations(self, job: Job) -> tuple[int, ...]:
        self.reads.append("generations")
        return await super().generations(job)

    async def records(self, job: Job, generation: int, start: int, limit: int) -> Sequence[str]:
        self.reads.append(f"records {generation} {start}")
        return await super().records(job, generation, start, limit)

    async def read_log(self, job: Job, worker: int, offset: int, limit: int) -> tuple[int, bytes]:
        self.reads.append(f"log {worker} {offset}")
        return await super().read_log(job, worker, offset, limit)


class CountingStore(FakeStore):
    """A store that counts how often the event log is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def entries(self, job: Job, after: int) -> tuple[LogEntry, ...]:
        self.reads += 1
        return await super().entries(job, after)


class World:
    """A job, and what its chief and the controller do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = CountingStore()
        self.storage = CountingStorage(root)
        self.live = Live()
        self.job = a_job()
        self.memories = self.live.job(self.job.uid)  # held as by an agent that is connected
        key = self.job.key
        self.paths = JobPaths(root, key.namespace, key.name, self.job.uid)
        self.paths.records.mkdir(parents=True)
        self.paths.logs.mkdir(parents=True)

    def watch(self) -> AsyncIterator[history_pb2.Event]:
        history = History(self.store, self.storage, self.live)
        return history.watch(self.job.key, WatchCursor(self.job.uid))

    async def becomes(self, status: Status, *, told: bool = False) -> None:
        """Store a status, with an entry in the event log if watchers are to be told of it."""
        last = self.job.status.last_event
        entry = LogEntry(last + 1, T0, StateChange(Phase.PENDING, status.phase, 1, "x"))
        status = replace(status, last_event=last + told)
        self.job = await self.store.put_status(self.job, status, [entry] if told else [])
        self.live.wake(self.job.uid)

    def record(self, index: int, *, told: bool = True, generation: int = 1) -> None:
        """Write a record as the chief does, and pass it on as its agent does."""
        record = history_pb2.Record(
            generation=generation, index=index, progress=job_pb2.Progress(step=index)
        )
        with self.paths.record_file(generation).open("a") as file:
            file.write(json_format.MessageToJson(record, indent=None) + "\n")
        if told:
            self.memories.add_record(record)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.job = await world.store.create(world.job)
    return world


async def steps(watching: AsyncIterator[history_pb2.Event], count: int) -> list[tuple[int, int]]:
    """Read so many records; return generation and step of each."""
    found = [(await anext(watching)).record for _ in range(count)]
    return [(r.generation, r.progress.step) for r in found]


async def test_a_watcher_of_a_job_that_has_not_begun_reads_nothing(world: World) -> None:
    watching = world.watch()
    for _ in range(3):
        await world.becomes(idle(), told=True)
        assert (await anext(watching)).HasField("state")
    assert world.storage.reads == []


async def test_a_watcher_who_was_told_all_reads_nothing(world: World) -> None:
    await world.becomes(running())
    world.record(0)
    watching = world.watch()
    assert await steps(watching, 1) == [(1, 0)]
    before = world.storage.reads.copy()
    for index in range(1, 10):
        world.record(index)
        assert await steps(watching, 1) == [(1, index)]
        world.memories.add_log(0, index, b"x")
        await world.becomes(running(), told=True)
        assert (await anext(watching)).HasField("state")
    assert world.storage.reads == before


async def test_the_event_log_is_read_when_there_is_more_in_it(world: World) -> None:
    await world.becomes(running(), told=True)
    watching = world.watch()
    assert (await anext(watching)).HasField("state")
    assert world.store.reads == 1
    for index in range(5):
        world.record(index)
        assert await steps(watching, 1) == [(1, index)]
    assert world.store.reads == 1
    await world.becomes(running(), told=True)
    assert (await anext(watching)).HasField("state")
    assert world.store.reads == 2


async def test_after_a_restart_what_is_stored_is_read_once(world: World) -> None:
    await world.becomes(running())
    for index in range(3):
        world.record(index, told=False)
    watching = world.watch()
    assert await steps(watching, 3) == [(1, 0), (1, 1), (1, 2)]
    await world.becomes(running(), told=True)
    await anext(watching)
    before = world.storage.reads.copy()
    await world.becomes(running(), told=True)
    await anext(watching)
    assert world.storage.reads == before
    world.record(3)
    assert await steps(watching, 1) == [(1, 3)]
    assert world.storage.reads == before


@pytest.mark.parametrize("what", ["the generation ended", "the next began", "an agent called"])
async def test_what_was_not_told_is_found(world: World, what: str) -> None:
    await world.becomes(running())
    world.record(0)
    watching = world.watch()
    assert await steps(watching, 1) == [(1, 0)]
    world.record(1, told=False)
    if what == "the generation ended":
        await world.becomes(running(generation_ended=True))
    elif what == "an agent called":
        world.memories.forget_records()
    else:
        await world.becomes(running(2))
        world.record(0, generation=2)
    assert await steps(watching, 1) == [(1, 1)]
    if what == "the next began":
        assert await steps(watching, 1) == [(2, 0)]


async def test_a_reader_of_a_log_hears_how_much_is_left_out(world: World) -> None:
    await world.becomes(idle())
    world.paths.log_file(0).write_text("first\n")
    world.paths.logs.joinpath("worker-0.log.1000").write_text("last but one\nlast\n")
    logs = Logs(world.store, world.storage, world.live, Workers(world.live, lambda key: None))
    cursor = LogCursor(world.job.uid)
    told = [t async for t in logs.read(world.job.key, [0], cursor, follow=False)]
    assert b"".join(text.data for text in told) == (
        b"first\n--- 994 bytes are left out ---\nlast but one\nlast\n"
    )
    assert told[-1].cursor.offsets == ((0, 1018),)
    for lines, text in [(1, b"last\n"), (2, b"last but one\nlast\n"), (9, b"last but one\nlast\n")]:
        tail = await logs.tail(world.job, [0], lines)
        told = [t async for t in logs.read(world.job.key, [0], tail, follow=False)]
        assert b"".join(text.data for text in told) == text


async def namesake(world: World) -> Job:
    """Replace the job by another one of its name, whose worker has printed more."""
    await world.store.remove(world.job)
    world.live.wake(world.job.uid)
    job = await world.store.create(a_job())
    assert (job.key, job.uid == world.job.uid) == (world.job.key, False)
    await world.store.put_status(job, replace(running(), phase=Phase.SUCCEEDED), ())
    paths = JobPaths(world.root, job.key.namespace, job.key.name, job.uid)
    paths.logs.mkdir(parents=True)
    paths.log_file(0).write_text("first of the other\nsecond of the other\n")
    return job


async def test_a_watcher_is_told_that_another_job_took_the_name(world: World) -> None:
    await world.becomes(running(), told=True)
    watching = world.watch()
    assert (await anext(watching)).HasField("state")
    await namesake(world)
    with pytest.raises(JobNotFound, match=r"default/mnist .* is another job"):
        await anext(watching)


@pytest.mark.parametrize("follow", [True, False])
async def test_a_reader_gets_no_byte_of_the_log_of_a_namesake(world: World, follow: bool) -> None:
    await world.becomes(running())
    world.paths.log_file(0).write_text("first\n")
    logs = Logs(world.store, world.storage, world.live, Workers(world.live, lambda key: None))
    reading = logs.read(world.job.key, [0], LogCursor(world.job.uid), follow=follow)
    assert (await anext(reading)).data == b"first\n"
    await namesake(world)
    with pytest.raises(JobNotFound, match=r"default/mnist .* is another job"):
        await anext(reading)


async def test_a_follower_of_logs_reads_only_what_no_agent_tells(world: World) -> None:
    await world.becomes(running())
    logs = Logs(world.store, world.storage, world.live, Workers(world.live, lambda key: None))
    reading = logs.read(world.job.key, [0, 1, 2], LogCursor(world.job.uid), follow=True)
    for number in range(5):
        for worker in (0, 1):
            world.memories.add_log(worker, 2 * number, b"%d\n" % number)
            text = await anext(reading)
            assert (text.worker, text.data) == (worker, b"%d\n" % number)
    assert world.storage.reads == ["log 2 0"]
    world.paths.log_file(2).write_text("not told\n")
    await world.becomes(running(generation_ended=True))
    text = await anext(reading)
    assert (text.worker, text.data) == (2, b"not told\n")
