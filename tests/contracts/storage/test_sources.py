"""Sources: whole or not there at all, and removed when nobody uses them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from controller.errors import ClusterUnavailable, InvalidJob
from controller.local import uploads
from controller.local.uploads import reference
from controller.model import DEFAULT_CLAIM
from controller.ports import SourceWriter, Storage
from tests.contracts.worlds import eventually
from trainer.storage import source_archive

DATA = b"an archive" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


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


async def test_a_folder_in_a_references_place_is_named(storage: Storage, root: Path) -> None:
    in_the_way = reference(root, "default", DIGEST)
    in_the_way.mkdir(parents=True)
    os.utime(in_the_way, (0, 0))
    with pytest.raises(ClusterUnavailable, match=f"{in_the_way}: Is a directory"):
        await storage.collect_sources("default", DEFAULT_CLAIM, frozenset())
