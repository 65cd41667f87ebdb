"""What the Storage does, over a folder, directly and through a gateway."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.errors import ClusterUnavailable, InvalidJob, JobNotFound
from controller.gateway.pool import GatewayPool
from controller.gateway.storage import GatewayStorage
from controller.local import uploads
from controller.local.storage import FolderStorage
from controller.local.trees import remove_tree
from controller.model import DEFAULT_CLAIM, Checkpoint, Job
from controller.ports import SourceWriter, Storage
from tests.contracts.jobs import a_job
from tests.contracts.worlds import eventually
from tests.gateway.processes import GatewayProcess, ProcessPods
from trainer.storage import Fence, FileEntry, JobPaths, Manifest, source_archive

DATA = b"an archive" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One real gateway for all tests of this file; each finds its claim empty."""
    folder = tmp_path_factory.mktemp("gateway")
    process = GatewayProcess(folder / "storage", folder)
    yield process
    process.end()


@pytest.fixture(params=["folder", "gateway"])
def gateway(request: pytest.FixtureRequest) -> GatewayProcess | None:
    """The gateway to go through, if any."""
    return request.getfixturevalue("process") if request.param == "gateway" else None


@pytest.fixture
def root(gateway: GatewayProcess | None, tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "storage" if gateway is None else gateway.root
    yield root
    remove_tree(root)


@pytest.fixture
async def storage(
    gateway: GatewayProcess | None, root: Path, tmp_path: Path
) -> AsyncIterator[Storage]:
    if gateway is None:
        yield FolderStorage(root)
        return
    pods = ProcessPods(root, tmp_path)
    pods.running = {(namespace, DEFAULT_CLAIM): gateway for namespace in ("default", "other")}
    async with GatewayPool(pods) as pool:
        yield GatewayStorage(pool)
    assert (pods.started, pods.deleted) == (0, [])


@pytest.fixture
def job() -> Job:
    return a_job()


@pytest.fixture
def paths(root: Path, job: Job) -> JobPaths:
    paths = JobPaths(root, job.key.namespace, job.key.name, job.uid)
    for folder in (paths.records, paths.fences, paths.checkpoints, paths.logs, paths.output):
        folder.mkdir(parents=True)
    return paths


def _checkpoint(paths: JobPaths, step: int, generation: int = 1) -> Manifest:
    files = (FileEntry("variables.index", 3, "0" * 64), FileEntry("variables.data", 4, "0" * 64))
    manifest = Manifest(step, generation, 1714996800.0, files, {"loss": 0.5, "accuracy": 0.9})
    folder = paths.checkpoints / manifest.id
    folder.mkdir()
    for entry in files:
        (folder / entry.path).write_bytes(b"x" * entry.size)
    (folder / "manifest.json").write_text(manifest.to_json())
    return manifest


# --- Records and logs


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
    paths.record_file(1).unlink()
    (paths.records / "held").touch()
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


# --- Checkpoints and files


async def test_committed_checkpoints_come_newest_first(
    storage: Storage, job: Job, paths: JobPaths
) -> None:
    for step in (100, 300, 200):
        _checkpoint(paths, step)
    (paths.checkpoints / "step-0000000400.g000001").mkdir()
    late = _checkpoint(paths, 350)
    fence = Fence(2, 300)
    (paths.fences / "g000002.json").write_text(
        f'{{"generation": {fence.generation}, "base_step": {fence.base_step}}}'
    )
    found = await storage.checkpoints(job)
    assert [checkpoint.step for checkpoint in found] == [300, 200, 100]
    assert late.id not in {checkpoint.id for checkpoint in found}
    assert found[0] == Checkpoint(
        id="step-0000000300.g000001",
        step=300,
        generation=1,
        size_bytes=7,
        created=datetime(2024, 5, 6, 12, tzinfo=UTC),
        metrics=(("accuracy", 0.9), ("loss", 0.5)),
    )


async def test_files_of_a_checkpoint(storage: Storage, job: Job, paths: JobPaths) -> None:
    made = _checkpoint(paths, 100)
    listed = await storage.files(job, made.id)
    size = os.stat(paths.checkpoints / made.id / "manifest.json").st_size
    assert listed == (("manifest.json", size), ("variables.data", 4), ("variables.index", 3))
    assert await storage.read_file(job, made.id, "variables.data", 1, 100) == b"xxx"


@pytest.mark.parametrize("checkpoint", ["", "..", "nonsense", "step-0000000007.g000001"])
async def test_an_unknown_checkpoint_is_not_found(
    storage: Storage, job: Job, paths: JobPaths, checkpoint: str
) -> None:
    (paths.checkpoints / "step-0000000007.g000001").mkdir()
    with pytest.raises(JobNotFound, match="checkpoint"):
        await storage.files(job, checkpoint)
    with pytest.raises(JobNotFound, match="checkpoint"):
        await storage.read_file(job, checkpoint, "variables.data", 0, 1)


@pytest.fixture
def output(paths: JobPaths, tmp_path: Path) -> Path:
    """An output folder with all that a program may leave in it."""
    output = paths.output
    (output / "model" / "assets").mkdir(parents=True)
    (output / "model" / "saved_model.pb").write_bytes(b"model")
    (output / "model" / "assets" / "empty").touch()
    (output / "a file, é").write_bytes(b"0123456789")
    (output / ".tmp-model.keras").write_bytes(b"unfinished")
    (output / ".tmpdir").mkdir()
    (output / ".tmpdir" / "x").touch()
    (tmp_path / "secret").write_bytes(b"secret")
    (output / "link").symlink_to(tmp_path / "secret")
    (output / "inner").symlink_to("model")
    (output / "out").symlink_to(tmp_path)
    (output / "loop").symlink_to("loop")
    os.mkfifo(output / "pipe")
    Path(os.fsdecode(os.fsencode(output) + b"/not-utf8-\xff")).touch()
    return output


@pytest.mark.usefixtures("output")
async def test_only_finished_plain_files_are_listed(storage: Storage, job: Job) -> None:
    assert await storage.files(job, None) == (
        ("a file, é", 10),
        ("model/assets/empty", 0),
        ("model/saved_model.pb", 5),
    )


@pytest.mark.usefixtures("output")
async def test_files_are_read_by_offset(storage: Storage, job: Job) -> None:
    assert await storage.read_file(job, None, "a file, é", 0, 4) == b"0123"
    assert await storage.read_file(job, None, "a file, é", 8, 4) == b"89"
    assert await storage.read_file(job, None, "a file, é", 10, 4) == b""
    assert await storage.read_file(job, None, "model/saved_model.pb", 0, 9) == b"model"


@pytest.mark.usefixtures("output")
@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../output/a file, é",
        "model/../a file, é",
        "model//saved_model.pb",
        "./model/saved_model.pb",
        "model/",
        "model",
        "missing",
        "a file, é/x",
        "link",
        "loop",
        "out/secret",
        "inner/saved_model.pb",
        "pipe",
        "nul\0",
        "x" * 300,
        "x/" * 3000 + "x",
    ],
)
async def test_nothing_else_can_be_read(storage: Storage, job: Job, path: str) -> None:
    with pytest.raises(JobNotFound):
        await storage.read_file(job, None, path, 0, 10)


async def test_a_tree_that_is_a_link_is_not_followed(
    storage: Storage, job: Job, output: Path, tmp_path: Path
) -> None:
    remove_tree(output)
    os.symlink(tmp_path, output)
    assert await storage.files(job, None) == ()
    with pytest.raises(JobNotFound):
        await storage.read_file(job, None, "secret", 0, 10)


# --- Sources


async def test_a_source_is_there_once_committed(storage: Storage, root: Path) -> None:
    writer = storage.open_source("default", DEFAULT_CLAIM, DIGEST, len(DATA))
    await writer.write(DATA[:100])
    await writer.write(DATA[100:])
    assert not await storage.has_source("default", DEFAULT_CLAIM, DIGEST)
    await writer.commit()
    assert await storage.has_source("default", DEFAULT_CLAIM, DIGEST)
    await writer.abort()
    assert source_archive(root, DIGEST).read_bytes() == DATA
    assert _parts(root) == []


def _files(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.is_file()]


def _parts(root: Path) -> list[str]:
    return [name for name in _files(root) if name.startswith(".tmp")]


async def test_the_same_source_may_come_several_times_at_once(storage: Storage, root: Path) -> None:
    writers = [storage.open_source("default", DEFAULT_CLAIM, DIGEST, len(DATA)) for _ in range(5)]
    for writer in writers:
        await writer.write(DATA)
    await asyncio.gather(*(writer.commit() for writer in writers))
    assert source_archive(root, DIGEST).read_bytes() == DATA
    assert _parts(root) == []


@pytest.mark.parametrize(
    ("data", "size", "field"),
    [
        (DATA[:-1], len(DATA), "header.source.sizeBytes"),
        (DATA + b"x", len(DATA), "header.source.sizeBytes"),
        (b"X" + DATA[1:], len(DATA), "header.source.digest"),
        (b"", 0, "header.source.digest"),
    ],
)
async def test_a_wrong_source_leaves_nothing(
    storage: Storage, root: Path, data: bytes, size: int, field: str
) -> None:
    writer = storage.open_source("default", DEFAULT_CLAIM, DIGEST, size)
    with pytest.raises(InvalidJob, match=field):
        await _send(writer, data)
    assert not await storage.has_source("default", DEFAULT_CLAIM, DIGEST)
    assert _files(root) == []


async def _send(writer: SourceWriter, data: bytes) -> None:
    await writer.write(data)
    await writer.commit()


async def test_an_aborted_source_leaves_nothing(storage: Storage, root: Path) -> None:
    writer = storage.open_source("default", DEFAULT_CLAIM, DIGEST, len(DATA))
    await writer.write(DATA[:10])
    await writer.abort()
    await writer.abort()
    assert _files(root) == []


async def test_an_abort_that_is_cancelled_leaves_nothing(storage: Storage, root: Path) -> None:
    writer = storage.open_source("default", DEFAULT_CLAIM, DIGEST, len(DATA))
    await writer.write(DATA[:10])
    assert _parts(root)
    # Whoever is cancelled aborts, while the threads that could remove the file are busy.
    busy = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        threads.submit(busy.wait)
        abort = asyncio.ensure_future(writer.abort())
        await asyncio.sleep(0)
        abort.cancel()
        with suppress(asyncio.CancelledError):
            await abort
        busy.set()
        await eventually(lambda: not _parts(root))


@pytest.mark.parametrize("digest", ["", "../../etc", DIGEST.upper(), DIGEST[:-1], DIGEST + "\n"])
async def test_a_digest_is_a_digest(storage: Storage, digest: str) -> None:
    with pytest.raises(InvalidJob, match=r"source\.digest"):
        await storage.has_source("default", DEFAULT_CLAIM, digest)
    with pytest.raises(InvalidJob, match=r"source\.digest"):
        storage.open_source("default", DEFAULT_CLAIM, digest, 1)


async def test_a_folder_that_cannot_be_written_is_named(storage: Storage, root: Path) -> None:
    os.mkdir(root)
    (root / "sources").write_text("in the way")
    with pytest.raises(ClusterUnavailable, match=f"{root}/sources: .*check its disk"):
        await _send(storage.open_source("default", DEFAULT_CLAIM, DIGEST, len(DATA)), DATA)
    full = uploads.unavailable(root, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert str(full) == f"{root}: No space left on device; make room on its disk"


async def _upload(storage: Storage, namespace: str, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    await _send(storage.open_source(namespace, DEFAULT_CLAIM, digest, len(data)), data)
    return digest


def _age(root: Path) -> None:
    old = time.time() - 7200
    for path in (root / "sources").rglob("*"):
        if path.is_file():
            os.utime(path, (old, old))


async def test_sources_that_nobody_uses_are_removed(storage: Storage, root: Path) -> None:
    used = await _upload(storage, "default", b"used")
    unused = await _upload(storage, "default", b"unused")
    shared = await _upload(storage, "default", b"shared")
    asked_for = await _upload(storage, "default", b"asked for")
    others = await _upload(storage, "other", b"others")
    assert await storage.has_source("other", DEFAULT_CLAIM, shared)
    left = storage.open_source("default", DEFAULT_CLAIM, DIGEST, 10)
    await left.write(b"half")
    await storage.collect_sources("default", DEFAULT_CLAIM, frozenset())
    assert len(list((root / "sources").glob("*.tar.gz"))) == 5
    _age(root)
    assert await storage.has_source("default", DEFAULT_CLAIM, asked_for)
    await storage.collect_sources("default", DEFAULT_CLAIM, frozenset({used}))
    assert sorted(path.name for path in (root / "sources").glob("*.tar.gz")) == sorted(
        f"{digest}.tar.gz" for digest in (used, shared, asked_for, others)
    )
    assert unused not in _files(root)
    assert _parts(root) == []
    await storage.collect_sources("other", DEFAULT_CLAIM, frozenset())
    assert not source_archive(root, shared).exists()
    assert not source_archive(root, others).exists()
    await left.abort()


# --- Deletion


async def test_a_deleted_job_leaves_nothing(
    storage: Storage, root: Path, job: Job, output: Path
) -> None:
    output.joinpath("model").chmod(0)
    await storage.delete_job(job)
    assert list((root / "jobs").iterdir()) == []
    await storage.delete_job(job)


async def test_a_namesakes_files_stay(
    storage: Storage, root: Path, job: Job, paths: JobPaths
) -> None:
    other = paths.folder.parent / "another-uid"
    other.mkdir()
    await storage.delete_job(job)
    assert list(paths.folder.parent.iterdir()) == [other]


async def test_a_folder_that_became_a_link_goes_without_its_target(
    storage: Storage, job: Job, paths: JobPaths, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "kept").touch()
    remove_tree(paths.folder)
    paths.folder.symlink_to(target)
    await storage.delete_job(job)
    assert not paths.folder.is_symlink()
    assert (target / "kept").exists()


async def test_files_written_while_a_job_is_deleted_go_too(
    storage: Storage, job: Job, paths: JobPaths
) -> None:
    stop = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                (paths.output / f"{number}").touch()
            except FileNotFoundError:
                return
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        await storage.delete_job(job)
        stop.set()
    assert not paths.folder.exists()
