"""Live memories hold what is newest, say so when they lack something, and lose no wake-up."""

import asyncio
import weakref

from controller.live import Live, LiveJob, LogTail, Signal
from protos.taas.v1 import history_pb2


def record(generation: int, index: int) -> history_pb2.Record:
    return history_pb2.Record(generation=generation, index=index)


def indexes(job: LiveJob, generation: int, start: int) -> list[int]:
    return [r.index for r in job.records(generation, start)]


def test_records_are_given_from_the_index_asked_for() -> None:
    job = LiveJob()
    for index in range(3, 7):
        job.add_record(record(1, index))
    assert indexes(job, 1, 3) == [3, 4, 5, 6]
    assert indexes(job, 1, 5) == [5, 6]
    assert indexes(job, 1, 7) == []


def test_records_before_the_memory_are_left_to_storage() -> None:
    job = LiveJob()
    job.add_record(record(1, 3))
    assert indexes(job, 1, 0) == []
    assert indexes(job, 2, 3) == []


def test_a_gap_and_a_new_generation_start_the_memory_afresh() -> None:
    job = LiveJob()
    job.add_record(record(1, 0))
    job.add_record(record(1, 5))
    assert indexes(job, 1, 0) == []
    assert indexes(job, 1, 5) == [5]
    job.add_record(record(2, 0))
    assert indexes(job, 1, 5) == []
    assert indexes(job, 2, 0) == [0]


def test_a_repeated_or_late_record_changes_nothing() -> None:
    job = LiveJob()
    job.add_record(record(2, 0))
    job.add_record(record(2, 0))
    job.add_record(record(1, 9))
    assert indexes(job, 2, 0) == [0]


def test_records_are_bounded() -> None:
    job = LiveJob()
    for index in range(2000):
        job.add_record(record(1, index))
    assert indexes(job, 1, 0) == []
    assert indexes(job, 1, 1999) == [1999]


def test_records_are_bounded_in_bytes() -> None:
    job = LiveJob()
    for index in range(100):
        long = record(1, index)
        long.notice.message = "x" * 60_000
        job.add_record(long)
        kept = next(held for start in range(index + 1) if (held := job.records(1, start)))
        assert sum(r.ByteSize() for r in kept) <= 1024 * 1024
    assert len(kept) == 1024 * 1024 // long.ByteSize()


def test_a_record_that_is_too_long_is_left_to_storage() -> None:
    job = LiveJob()
    job.add_record(record(1, 0))
    huge = record(1, 1)
    huge.notice.message = "x" * 70_000
    job.add_record(huge)
    assert indexes(job, 1, 0) == []
    assert indexes(job, 1, 1) == []
    job.add_record(record(1, 2))
    assert indexes(job, 1, 2) == [2]


def test_log_tail_gives_bytes_by_offset() -> None:
    tail = LogTail()
    tail.append(100, b"abc")
    tail.append(103, b"def")
    assert tail.read(101, 3) == b"bcd"
    assert tail.read(106, 3) == b""
    assert tail.read(99, 3) == b""


def test_log_tail_starts_afresh_after_a_gap_and_is_bounded() -> None:
    tail = LogTail()
    tail.append(0, b"abc")
    tail.append(10, b"x" * 300_000)
    assert tail.read(0, 3) == b""
    assert tail.read(10, 3) == b""
    assert tail.read(300_009, 9) == b"x"


def test_a_job_knows_its_newest_record_until_an_agent_calls_again() -> None:
    job = LiveJob()
    assert job.newest is None
    job.add_record(record(1, 0))
    job.add_record(record(1, 1))
    assert job.newest == (1, 1)
    job.forget_records()
    assert job.newest is None
    assert indexes(job, 1, 0) == []


async def test_a_change_between_two_waits_is_not_missed() -> None:
    signal = Signal()
    version = signal.version
    signal.set()
    assert await signal.wait(version) == version + 1


async def test_all_waiters_wake_and_a_cancelled_one_harms_nobody() -> None:
    signal = Signal()
    waits = [asyncio.create_task(signal.wait(0)) for _ in range(3)]
    await asyncio.sleep(0)
    waits[0].cancel()
    signal.set()
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [1, 1]


async def test_all_who_hold_a_jobs_memories_share_them_and_the_last_lets_them_go() -> None:
    live = Live()
    agent, reader = live.job("u"), live.job("u")
    assert agent is reader
    waiting = asyncio.create_task(reader.signal.wait(0))
    await asyncio.sleep(0)
    live.wake("u")
    assert await waiting == 1
    gone = weakref.ref(agent)
    del agent, reader, waiting
    assert gone() is None
    live.wake("u")
