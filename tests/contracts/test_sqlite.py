"""What the SQLite store promises beyond the contract: durability, shared commits, clear errors."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import ClusterUnavailable, Conflict, JobExists, JobNotFound
from controller.local.database import Database, Schema
from controller.local.lock import StateLock
from controller.local.store import SqliteStore
from controller.model import Job, Phase, Status
from controller.ports import ListFilter
from tests.contracts.jobs import a_job, an_entry
from tests.contracts.worlds import TIMEOUT_S

_ROOT = Path(__file__).parents[2]


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqliteStore(path) as store:
        job = await store.create(a_job("one", labels=(("team", "vision"),)))
        job = await store.put_status(job, Status(message="so it is"), [an_entry(1)])
        await store.create(a_job("two"))
        done = await store.create(a_job("done"))
        await store.put_status(done, Status(phase=Phase.SUCCEEDED), [])
        page = await store.list(ListFilter(), 2, "")
    async with SqliteStore(path) as store:
        assert await store.get(job.key) == job
        assert await store.entries(job, 0) == (an_entry(1),)
        rest = await store.list(ListFilter(), 1, page.next_token)
        assert [found.key.name for found in rest.jobs] == ["one"]
        assert {found.key.name for found in await store.unfinished("default")} == {"one", "two"}
        with pytest.raises(JobExists):
            await store.create(a_job("two"))


async def test_a_job_of_before_a_restart_is_removed_unread(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqliteStore(path) as store:
        job = await store.create(a_job())
    async with SqliteStore(path) as store:
        await store.remove(replace(job, uid="of another one"))
        assert await store.unfinished("default") == (job,)
    async with SqliteStore(path) as store:
        await store.remove(job)
        assert await store.unfinished("default") == ()
        with pytest.raises(JobNotFound):
            await store.get(job.key)


async def test_a_name_prefix_is_no_wildcard(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "state.db") as store:
        await store.create(a_job("net-1"))
        await store.create(a_job("net_3%"))
        for prefix in ("net_", "net_3%"):
            page = await store.list(ListFilter(name_prefix=prefix), 10, "")
            assert [job.key.name for job in page.jobs] == ["net_3%"]
        assert (await store.list(ListFilter(name_prefix="net%"), 10, "")).jobs == ()


_SUBMITTER = """
import asyncio, sys
from pathlib import Path
from controller.local.store import SqliteStore
from tests.contracts.jobs import a_job

async def submit(store, n):
    await store.create(a_job(f"job-{n}"))
    sys.stdout.write(f"job-{n}\\n")
    sys.stdout.flush()

async def main():
    async with SqliteStore(Path(sys.argv[1])) as store:
        n = 0
        while True:
            await asyncio.gather(*(submit(store, i) for i in range(n, n + 7)))
            n += 7

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SUBMITTER, str(path), cwd=_ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT_S):
        first = [await process.stdout.readline() for _ in range(100)]
    process.kill()
    # The last line may be torn.
    rest = (await process.stdout.read()).split(b"\n")[:-1]
    await process.wait()
    acknowledged = {line.decode().strip() for line in (*first, *rest)}
    async with SqliteStore(path) as store:
        assert acknowledged <= {key.name for key in await store.keys()}


async def test_writes_that_queue_up_are_each_whole_or_not_at_all(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "state.db") as store:
        await store.create(a_job("taken"))
        stale = await store.create(a_job("stale"))
        await store.put_spec(stale, stale.spec)
        writes = [store.create(a_job(f"job-{n}")) for n in range(598)]
        writes.insert(100, store.create(a_job("taken")))
        writes.insert(200, store.put_status(stale, Status(), [an_entry(1)]))
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert isinstance(results[100], JobExists)
        assert isinstance(results[200], Conflict)
        assert sum(isinstance(result, Job) for result in results) == 598
        assert len(await store.keys()) == 600
        assert await store.entries(stale, 0) == ()


async def test_a_caller_that_leaves_does_not_stop_its_write(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "state.db") as store:
        changes = store.changes()
        job = a_job()
        caller = asyncio.ensure_future(store.create(job))
        await asyncio.sleep(0)
        caller.cancel()
        async with asyncio.timeout(TIMEOUT_S):
            assert await anext(changes) == job.key
        assert (await store.get(job.key)).uid == job.uid


async def test_writes_share_commits(tmp_path: Path) -> None:
    database = Database(tmp_path / "one.db", Schema(1, "CREATE TABLE t (n INTEGER);"))
    await database.open()
    try:
        await asyncio.gather(*(database.write(_insert(n)) for n in range(200)))
        rows = await database.read(lambda c: c.execute("SELECT count(*) FROM t").fetchone())
        assert rows == (200,)
        # Each commit adds one frame for the one page that changes, the first ones a few more.
        frames = os.stat(tmp_path / "one.db-wal").st_size // 4096
        assert frames < 50
    finally:
        await database.aclose()


def _insert(number: int):  # type: ignore[no-untyped-def]
    def change(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (?)", (number,))

    return change


async def test_readers_end_and_calls_fail_once_it_is_closed(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "state.db") as store:
        changes = store.changes()
        job = await store.create(a_job())
    assert [key async for key in changes] == [job.key]
    for call in (store.keys(), store.create(a_job("late"))):
        with pytest.raises(ClusterUnavailable, match="is closed"):
            await call


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ClusterUnavailable, match=r"state\.db .*schema 99.*upgrade taas"):
        async with SqliteStore(path):
            pass


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database at all\n" * 500)
    with pytest.raises(ClusterUnavailable, match=r"state\.db is damaged .*move it away"):
        async with SqliteStore(path):
            pass


async def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqliteStore(path) as store:
        for n in range(60):
            await store.create(a_job(f"job-{n}"))
    size = os.stat(path).st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 8192))
    with pytest.raises(ClusterUnavailable, match=r"state\.db is damaged"):
        async with SqliteStore(path):
            pass


async def test_a_document_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqliteStore(path) as store:
        job = await store.create(a_job())
    connection = sqlite3.connect(path)
    connection.execute("UPDATE jobs SET document = '{}'")
    connection.commit()
    connection.close()
    async with SqliteStore(path) as store:
        with pytest.raises(ClusterUnavailable, match=f"state.db: the job with uid {job.uid}"):
            await store.get(job.key)


async def test_a_full_disk_fails_the_write_and_nothing_else(tmp_path: Path) -> None:
    database = Database(tmp_path / "one.db", Schema(1, "CREATE TABLE t (n INTEGER);"))
    await database.open()
    try:
        await database.write(_insert(1))
        await database.read(lambda c: c.execute("PRAGMA max_page_count = 2").fetchone())
        with pytest.raises(ClusterUnavailable, match=r"one\.db: .*full.*the disk has room"):
            await database.write(
                lambda c: c.execute("INSERT INTO t SELECT randomblob(100000)").fetchone()
            )
        await database.write(_insert(2))
        rows = await database.read(lambda c: c.execute("SELECT n FROM t").fetchall())
        assert rows == [(1,), (2,)]
    finally:
        await database.aclose()


async def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ClusterUnavailable, match=r"state\.db: its folder cannot be made"):
        async with SqliteStore(tmp_path / "file" / "state.db"):
            pass


def test_a_state_folder_has_one_owner(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        StateLock(home),
        pytest.raises(ClusterUnavailable, match=f"in use by .* process id {os.getpid()};"),
        StateLock(home),
    ):
        pass
    with StateLock(home):
        assert home.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(ClusterUnavailable, match=r"controller\.lock: "),
        StateLock(tmp_path / "file"),
    ):
        pass


async def test_versions_are_the_stores_own(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "state.db") as store:
        job = await store.create(replace(a_job(), version="77"))
        assert job.version == "1"
        with pytest.raises(Conflict):
            await store.put_spec(replace(job, version="x"), job.spec)
