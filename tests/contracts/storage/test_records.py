"""Records and logs, read while they are written."""

from __future__ import annotations

import asyncio

import pytest

from controller.errors import InvalidJob
from controller.model import Job
from controller.ports import Storage
from trainer.storage import JobPaths


async def test_a_job_without_files_has_nothing(storage: Storage, job: Job) -> None:
    assert await storage.generations(job) == ()
    assert await storage.records(job, 1, 0, 10) == []
    assert await storage.read_log(job, 0, 0, 10) == (0, b"")
    assert await storage.log_size(job, 0) == 0
    assert await storage.checkpoints(job) == ()
    assert await storage.files(job, None) == ()
    await storage.delete_job(job)


async def test_generations_are_those_with_records(
    storage: Storage, job: Job, paths: JobPaths
) -> None:
    for name in ("g000010.jsonl", "g000002.jsonl", "g1234567.jsonl", "g3.jsonl", "note.txt"):
        (paths.records / name).touch()
    assert await storage.generations(job) == (2, 10, 1234567)


async def test_a_torn_line_is_not_there_yet(storage: Storage, job: Job, paths: JobPaths) -> None:
    file = paths.record_file(1)
    file.write_bytes(b'{"a": 1}\n{"b": "\xc3\xa9"}\n{"c"')
    assert await storage.records(job, 1, 0, 10) == ['{"a": 1}', '{"b": "é"}']
    assert await storage.records(job, 1, 2, 10) == []
    with file.open("ab") as more:
        more.write(b": 3}\n")
    assert await storage.records(job, 1, 2, 10) == ['{"c": 3}']
    assert await storage.records(job, 1, 7, 10) == []


@pytest.mark.parametrize("width", [1, 300])
async def test_any_part_of_a_long_file_can_be_read(
    storage: Storage, job: Job, paths: JobPaths, width: int
) -> None:
    lines = [f"{n}" * width for n in range(3000)]
    paths.record_file(1).write_text("\n".join(lines) + "\n")
    starts = [2999, 0, 255, 256, 257, 511, 1700, 3000, 3001, 2]
    reads = (storage.records(job, 1, start, 300) for start in starts)
    for start, read in zip(starts, await asyncio.gather(*reads), strict=True):
        assert read == lines[start : start + 300]
    found: list[str] = []
    while more := await storage.records(job, 1, len(found), 7):
        found.extend(more)
    assert found == lines


async def test_reading_far_behind_the_end_ends(storage: Storage, job: Job, paths: JobPaths) -> None:
    paths.record_file(1).write_text("{}\n")
    assert list(await storage.records(job, 1, 2**53, 10)) == []


async def test_a_namesakes_records_are_not_mistaken_for_the_jobs(
    storage: Storage, job: Job, paths: JobPaths
) -> None:
    paths.record_file(1).write_text("x\n" * 600)
    assert len(await storage.records(job, 1, 0, 1000)) == 600
    # Kept under another name, so that the new file cannot be given its inode.
    paths.record_file(1).rename(paths.records / "held")
    paths.record_file(1).write_text("longer\n" * 600)
    assert await storage.records(job, 1, 599, 10) == ["longer"]


async def test_logs_are_read_by_offset(storage: Storage, job: Job, paths: JobPaths) -> None:
    paths.log_file(1).write_bytes(b"hello world\n")
    assert await storage.log_size(job, 1) == 12
    assert await storage.read_log(job, 1, 6, 5) == (6, b"world")
    assert await storage.read_log(job, 1, 12, 5) == (12, b"")
    assert await storage.read_log(job, 1, 99, 5) == (99, b"")
    with pytest.raises(InvalidJob, match="offset: is -1"):
        await storage.read_log(job, 1, -1, 5)


async def test_what_is_left_out_of_a_log_is_passed_over(
    storage: Storage, job: Job, paths: JobPaths
) -> None:
    paths.log_file(1).write_bytes(b"first\n")
    for begin, text in ((100, b"later\n"), (106, b"newest\n")):
        paths.logs.joinpath(f"worker-1.log.{begin}").write_bytes(text)
    for name in ("worker-1.log.x", "worker-11.log", "worker-1.log.9.tmp"):
        paths.logs.joinpath(name).write_bytes(b"not of this log")
    assert await storage.log_size(job, 1) == 113
    assert await storage.read_log(job, 1, 0, 50) == (0, b"first\n")
    assert await storage.read_log(job, 1, 6, 6) == (100, b"later\n")
    assert await storage.read_log(job, 1, 50, 3) == (100, b"lat")
    assert await storage.read_log(job, 1, 103, 3) == (103, b"er\n")
    assert await storage.read_log(job, 1, 106, 50) == (106, b"newest\n")
    assert await storage.read_log(job, 1, 113, 50) == (113, b"")
