"""What every JobStore does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import Conflict, InvalidJob, JobExists, JobNotFound
from controller.local.store import SqliteStore
from controller.model import Job, JobKey, Phase, Status
from controller.ports import JobStore, ListFilter
from tests.contracts.jobs import NOON, a_job, an_entry
from tests.contracts.kubernetes_world import KUBERNETES, kubernetes_store
from tests.fakes import FakeStore


@pytest.fixture(params=["fake", "sqlite", KUBERNETES])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JobStore]:
    if request.param == "fake":
        yield FakeStore(now=lambda: NOON)
    elif request.param == "kubernetes":
        async with kubernetes_store(request.getfixturevalue("api_server")) as opened:
            yield opened
    else:
        async with SqliteStore(tmp_path / "state.db", now=lambda: NOON) as opened:
            yield opened


async def test_a_created_job_comes_back_with_a_version(store: JobStore) -> None:
    job = a_job(labels=(("team", "vision"),))
    created = await store.create(job)
    assert created.version
    # A store may have its own way of giving out uids and times.
    assert replace(created, version="", uid=job.uid, created=job.created) == job
    assert await store.get(job.key) == created
    assert await store.keys() == (job.key,)


async def test_a_name_is_given_once(store: JobStore) -> None:
    first = await store.create(a_job())
    with pytest.raises(JobExists, match="default/mnist"):
        await store.create(a_job())
    assert await store.get(first.key) == first
    await store.create(a_job(namespace="other"))


async def test_what_is_not_there_is_not_found(store: JobStore) -> None:
    job = replace(a_job(), version="1")
    with pytest.raises(JobNotFound):
        await store.get(job.key)
    with pytest.raises(JobNotFound):
        await store.put_spec(job, job.spec)
    with pytest.raises(JobNotFound):
        await store.put_status(job, job.status, [])
    with pytest.raises(JobNotFound):
        await store.mark_deleting(job.key)
    await store.remove(job)
    assert await store.entries(job, 0) == ()


async def test_status_and_entries_are_written_together(store: JobStore) -> None:
    job = await store.create(a_job())
    running = Status(phase=Phase.RUNNING, generation=1, generation_ended=False, last_event=3)
    stored = await store.put_status(job, running, [an_entry(1), an_entry(2), an_entry(3)])
    assert stored.version != job.version
    assert (stored.status, stored.spec) == (running, job.spec)
    assert await store.get(job.key) == stored
    assert await store.entries(job, 0) == (an_entry(1), an_entry(2), an_entry(3))
    assert await store.entries(job, 2) == (an_entry(3),)
    assert await store.entries(job, 3) == ()


async def test_a_stale_write_changes_nothing(store: JobStore) -> None:
    job = await store.create(a_job())
    newer = await store.put_spec(job, replace(job.spec, workers=5))
    with pytest.raises(Conflict):
        await store.put_status(job, Status(phase=Phase.FAILED), [an_entry(1)])
    with pytest.raises(Conflict):
        await store.put_spec(job, job.spec)
    assert await store.get(job.key) == newer
    assert newer.spec.workers == 5
    assert await store.entries(job, 0) == ()


async def test_entries_have_no_gaps(store: JobStore) -> None:
    job = await store.create(a_job())
    job = await store.put_status(job, job.status, [an_entry(1)])
    for wrong in ([an_entry(1)], [an_entry(3)], [an_entry(2), an_entry(4)]):
        with pytest.raises(ValueError, match="do not follow"):
            await store.put_status(job, Status(phase=Phase.FAILED), wrong)
    assert await store.get(job.key) == job
    assert await store.entries(job, 0) == (an_entry(1),)


async def test_one_of_many_writers_of_one_version_wins(store: JobStore) -> None:
    job = await store.create(a_job())
    writes = (store.put_spec(job, replace(job.spec, workers=n)) for n in range(3, 23))
    results = await asyncio.gather(*writes, return_exceptions=True)
    winners = [result for result in results if isinstance(result, Job)]
    assert len(winners) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 19
    assert await store.get(job.key) == winners[0]


async def test_one_of_many_creators_wins(store: JobStore) -> None:
    results = await asyncio.gather(
        *(store.create(a_job()) for _ in range(20)), return_exceptions=True
    )
    assert Counter(map(type, results)) == {Job: 1, JobExists: 19}, results


async def test_deletion_is_recorded_once(store: JobStore) -> None:
    job = await store.create(a_job())
    marked = await store.mark_deleting(job.key)
    assert marked.deleting is not None
    assert marked.version != job.version
    assert await store.mark_deleting(job.key) == marked
    with pytest.raises(Conflict):
        await store.put_spec(job, job.spec)


async def test_a_removed_job_is_gone_with_its_log(store: JobStore) -> None:
    job = await store.create(a_job(labels=(("a", "b"),)))
    job = await store.put_status(job, job.status, [an_entry(1)])
    await store.remove(job)
    assert await store.keys() == ()
    assert await store.entries(job, 0) == ()
    await store.remove(job)
    again = await store.create(a_job(labels=(("a", "b"),)))
    assert await store.entries(again, 0) == ()


async def test_a_namesake_is_left_alone(store: JobStore) -> None:
    old = await store.create(a_job())
    await store.remove(old)
    new = await store.create(a_job())
    # Where a job's versions are counted, both may have the same.
    with pytest.raises(Conflict):
        await store.put_status(replace(old, version=new.version), Status(phase=Phase.FAILED), [])
    await store.remove(old)
    assert await store.get(new.key) == new


async def _names(store: JobStore, wanted: ListFilter, page_size: int) -> list[list[str]]:
    pages, token = [], ""
    while True:
        page = await store.list(wanted, page_size, token)
        pages.append([job.key.name for job in page.jobs])
        token = page.next_token
        if not token:
            return pages


async def test_pages_are_newest_first_and_end(store: JobStore) -> None:
    for name in "abcdef":
        await store.create(a_job(name))
    assert await _names(store, ListFilter(), 4) == [["f", "e", "d", "c"], ["b", "a"]]
    assert await _names(store, ListFilter(), 3) == [["f", "e", "d"], ["c", "b", "a"]]
    assert await _names(store, ListFilter(namespace="other"), 3) == [[]]


async def test_a_page_token_is_stable_under_writes(store: JobStore) -> None:
    jobs = {name: await store.create(a_job(name)) for name in "abcdef"}
    page = await store.list(ListFilter(), 2, "")
    await store.remove(jobs["e"])
    await store.remove(jobs["d"])
    await store.create(a_job("g"))
    page = await store.list(ListFilter(), 2, page.next_token)
    assert [job.key.name for job in page.jobs] == ["c", "b"]


async def test_filters_must_all_match(store: JobStore) -> None:
    await store.create(a_job("net-1", labels=(("team", "vision"), ("tier", "gold"))))
    second = await store.create(a_job("net-2", labels=(("team", "vision"),)))
    await store.put_status(second, Status(phase=Phase.RUNNING), [])
    await store.create(a_job("net-3", labels=(("team", "text"),)))
    await store.create(a_job("toy", namespace="other", labels=(("team", "vision"),)))
    for wanted, names in [
        (ListFilter(namespace="other"), ["toy"]),
        (ListFilter(phases=frozenset({"RUNNING"})), ["net-2"]),
        (ListFilter(phases=frozenset({"RUNNING", "PENDING"})), ["toy", "net-3", "net-2", "net-1"]),
        (ListFilter(labels=(("team", "vision"),)), ["toy", "net-2", "net-1"]),
        (ListFilter(labels=(("team", "vision"), ("tier", "gold"))), ["net-1"]),
        (ListFilter(labels=(("tier", "silver"),)), []),
        (ListFilter(name_prefix="net_"), []),
        (ListFilter(name_prefix="net"), ["net-3", "net-2", "net-1"]),
        (ListFilter(name_prefix="N"), []),
        (
            ListFilter(namespace="default", labels=(("team", "vision"),), name_prefix="net-2"),
            ["net-2"],
        ),
    ]:
        assert await _names(store, wanted, 10) == [names], wanted


@pytest.mark.parametrize(
    "token", ["x", "!!", "MTIz", "W10=", "bnVsbA==", "é", "WzEsMl0=", "[" * 9999]
)
async def test_a_bad_page_token_is_refused(store: JobStore, token: str) -> None:
    with pytest.raises(InvalidJob, match=r"pageToken: .*start without a token"):
        await store.list(ListFilter(), 10, token)


async def test_a_page_token_is_good_for_its_own_filter_only(store: JobStore) -> None:
    for name in "abc":
        await store.create(a_job(name))
    page = await store.list(ListFilter(), 1, "")
    with pytest.raises(InvalidJob, match="another filter"):
        await store.list(ListFilter(namespace="default"), 1, page.next_token)


async def test_unfinished_jobs_are_those_of_a_namespace_that_are_not_final(
    store: JobStore,
) -> None:
    jobs = {name: await store.create(a_job(name)) for name in "abcd"}
    await store.create(a_job("a", namespace="other"))
    await store.put_status(jobs["b"], Status(phase=Phase.RUNNING), [])
    await store.put_status(jobs["c"], Status(phase=Phase.SUCCEEDED), [])
    await store.remove(jobs["d"])
    found = {job.key.name: job.status.phase for job in await store.unfinished("default")}
    assert found == {"a": Phase.PENDING, "b": Phase.RUNNING}
    assert await store.unfinished("nowhere") == ()


async def _next(changes: AsyncIterator[JobKey]) -> JobKey:
    async with asyncio.timeout(60):
        return await anext(changes)


async def test_every_kind_of_write_is_told(store: JobStore) -> None:
    changes = store.changes()
    job = await store.create(a_job())
    assert await _next(changes) == job.key
    job = await store.put_spec(job, job.spec)
    assert await _next(changes) == job.key
    await store.put_status(job, job.status, [])
    assert await _next(changes) == job.key
    job = await store.mark_deleting(job.key)
    assert await _next(changes) == job.key
    await store.remove(job)
    assert await _next(changes) == job.key


async def test_changes_begin_when_they_are_asked_for_and_are_told_to_all(store: JobStore) -> None:
    await store.create(a_job("before"))
    first, second = store.changes(), store.changes()
    await store.create(a_job("after"))
    assert await _next(first) == JobKey("default", "after")
    assert await _next(second) == JobKey("default", "after")


async def test_a_slow_reader_gets_one_key_for_many_writes(store: JobStore) -> None:
    changes = store.changes()
    job = await store.create(a_job("busy"))
    for _ in range(50):
        job = await store.put_spec(job, job.spec)
    await store.create(a_job("calm"))
    assert [(await _next(changes)).name, (await _next(changes)).name] == ["busy", "calm"]
