"""Sources go when no job uses them, never before, and claims at rest are left alone."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.collector import Collected, Collector, collect
from controller.errors import ClusterUnavailable
from controller.local.storage import FolderStorage
from controller.model import DEFAULT_CLAIM, Job, Source
from controller.ports import ListFilter, Page
from tests.contracts.jobs import a_job
from tests.fakes import FakeStore

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Faltering(FakeStore):
    """A store whose first list fails."""

    failed = False

    async def list(self, wanted: ListFilter, page_size: int, token: str) -> Page:
        if not self.failed:
            self.failed = True
            raise ClusterUnavailable("the store is away")
        return await super().list(wanted, page_size, token)


class Watched(FolderStorage):
    """A storage that tells what was collected, and can be away."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.collected: list[tuple[str, str, frozenset[str]]] = []
        self.failures: dict[str, Exception] = {}  # by namespace
        self.told = asyncio.Event()

    async def collect_sources(self, namespace: str, claim: str, keep: frozenset[str]) -> None:
        if namespace in self.failures:
            raise self.failures[namespace]
        await super().collect_sources(namespace, claim, keep)
        self.collected.append((namespace, claim, keep))
        self.told.set()

    async def upload(self, data: bytes, namespace: str = "default") -> str:
        digest = hashlib.sha256(data).hexdigest()
        writer = self.open_source(namespace, DEFAULT_CLAIM, digest, len(data))
        await writer.write(data)
        await writer.commit()
        return digest

    def age(self) -> None:
        """Let all sources be untouched for two hours."""
        old = time.time() - 7200
        for path in (self.root / "sources").rglob("*"):
            if path.is_file():
                os.utime(path, (old, old))

    def sources(self) -> set[str]:
        return {p.name.removesuffix(".tar.gz") for p in (self.root / "sources").glob("*.tar.gz")}


@pytest.fixture
def storage(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def using(digest: str | None, name: str, claim: str = DEFAULT_CLAIM) -> Job:
    job = a_job(name)
    source = None if digest is None else Source(digest, 10)
    return replace(job, spec=replace(job.spec, source=source, storage_claim=claim))


async def test_what_a_job_uses_stays_and_the_rest_goes(store: FakeStore, storage: Watched) -> None:
    used, unused = await storage.upload(b"used"), await storage.upload(b"unused")
    storage.age()
    fresh = await storage.upload(b"fresh")
    await store.create(using(used, "job"))
    await Collector(store, storage).round(NOON)
    assert storage.sources() == {used, fresh}
    assert unused not in storage.sources()


async def test_a_job_that_is_being_deleted_still_uses_its_source(
    store: FakeStore, storage: Watched
) -> None:
    used = await storage.upload(b"used")
    storage.age()
    job = await store.create(using(used, "job"))
    await store.mark_deleting(job.key)
    await Collector(store, storage).round(NOON)
    assert storage.sources() == {used}


async def test_every_claim_is_told_its_own_digests(store: FakeStore, storage: Watched) -> None:
    for number in range(3):
        await store.create(using("a" * 63 + str(number), f"one-{number}"))
    await store.create(using("b" * 64, "two", claim="other"))
    await store.create(using(None, "three", claim="empty"))
    await Collector(store, storage).round(NOON)
    assert sorted(storage.collected) == [
        ("default", "empty", frozenset()),
        ("default", "other", frozenset({"b" * 64})),
        ("default", DEFAULT_CLAIM, frozenset("a" * 63 + str(number) for number in range(3))),
    ]


async def test_jobs_of_all_pages_count(store: FakeStore, storage: Watched) -> None:
    digests = {f"{number:064}" for number in range(1100)}
    for digest in digests:
        await store.create(using(digest, f"job-{int(digest)}"))
    await Collector(store, storage).round(NOON)
    assert storage.collected == [("default", DEFAULT_CLAIM, frozenset(digests))]


async def test_the_last_jobs_source_goes_an_hour_later(store: FakeStore, storage: Watched) -> None:
    used = await storage.upload(b"used")
    job = await store.create(using(used, "job"))
    collector = Collector(store, storage)
    await collector.round(NOON)
    await store.remove(job)
    await collector.round(NOON + timedelta(minutes=10))
    await collector.round(NOON + timedelta(minutes=60))
    assert len(storage.collected) == 1
    storage.age()
    await collector.round(NOON + timedelta(minutes=70))
    assert storage.sources() == set()
    await collector.round(NOON + timedelta(days=3))
    assert len(storage.collected) == 2  # nothing is known of the namespace any more


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(ClusterUnavailable("the claim is away"), id="away"),
        pytest.param(OSError(errno.ESTALE, "Stale file handle"), id="in an unknown way"),
    ],
)
async def test_a_claim_that_fails_is_tried_again_and_holds_up_no_other(
    store: FakeStore, storage: Watched, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    await store.create(using("a" * 64, "job"))
    await store.create(replace(a_job("job", namespace="other")))
    storage.failures = {"default": failure}
    collector = Collector(store, storage)
    await collector.round(NOON)
    assert [namespace for namespace, *_ in storage.collected] == ["other"]
    assert str(failure) in caplog.text
    storage.failures = {}
    await collector.round(NOON + timedelta(minutes=10))
    assert [namespace for namespace, *_ in storage.collected] == ["other", "default"]


@pytest.mark.parametrize(
    ("since", "last", "now", "due"),
    [
        pytest.param(0, None, 0, True, id="never collected"),
        pytest.param(0, 0, 0.9, False, id="changed less than an hour ago"),
        pytest.param(0, 0, 1, True, id="changed an hour ago"),
        pytest.param(0, 0.9, 5, True, id="collected before the hour was over"),
        pytest.param(0, 1, 5, False, id="collected after the hour was over"),
        pytest.param(0, 1, 25, True, id="not collected for a day"),
    ],
)
def test_a_claim_is_collected_when_something_may_be_left(
    since: float, last: float | None, now: float, due: bool
) -> None:
    seen = None if last is None else NOON + last * HOUR
    assert Collected(frozenset(), NOON + since * HOUR, seen).due(NOON + now * HOUR) is due


async def test_it_goes_on_when_the_jobs_cannot_be_listed(
    storage: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    store = Faltering()
    await store.create(using("a" * 64, "job"))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(collect(store, storage, lambda: NOON, interval_s=0.0))
        await storage.told.wait()
        task.cancel()
    assert "the store is away" in caplog.text
