"""Shared storage in a folder of this machine: the Storage of the local backend."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from controller.errors import InvalidJob, JobNotFound
from controller.local import tree_files
from controller.local.lines import LineFiles
from controller.local.trees import remove_tree
from controller.local.uploads import (
    SOURCES,
    FolderSourceWriter,
    check_digest,
    reference,
    touch,
    unavailable,
)
from controller.model import Checkpoint, Job
from trainer import logparts
from trainer.storage import (
    MANIFEST,
    JobPaths,
    Manifest,
    committed,
    parse_checkpoint_id,
    source_archive,
)

_RECORD_FILE = re.compile(r"g(\d{6,})\.jsonl")
# A source that a client has just asked for may belong to a job it is about to create.
_SOURCE_IDLE_S = 3600


class FolderStorage:
    """The Storage over a folder laid out as trainer.storage says. Disk work runs in threads.

    The folder is the only claim: whatever claim a caller names, it is this one.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lines = LineFiles()
        # Keeps has_source from promising an archive that collect_sources is removing.
        self._sources = threading.Lock()

    async def generations(self, job: Job) -> tuple[int, ...]:
        """Return the generations that have a record file, ascending."""
        return await asyncio.to_thread(self._generations, job)

    def _generations(self, job: Job) -> tuple[int, ...]:
        try:
            names = os.listdir(self._paths(job).records)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise unavailable(self._paths(job).records, error) from error
        matches = (_RECORD_FILE.fullmatch(name) for name in names)
        return tuple(sorted(int(match[1]) for match in matches if match))

    async def records(self, job: Job, generation: int, start: int, limit: int) -> Sequence[str]:
        """Return complete lines of a record file from that line number on; a torn last line
        is not there yet."""
        return await asyncio.to_thread(self._records, job, generation, start, limit)

    def _records(self, job: Job, generation: int, start: int, limit: int) -> list[str]:
        path = self._paths(job).record_file(generation)
        try:
            fd = self._open(path)
        except FileNotFoundError:
            return []
        try:
            return self._lines.read((job.uid, generation), fd, start, limit)
        except OSError as error:
            raise unavailable(path, error) from error
        finally:
            os.close(fd)

    async def read_log(self, job: Job, worker: int, offset: int, limit: int) -> tuple[int, bytes]:
        """Return at most limit bytes of a worker's log and where they begin: at the offset, or
        later if what was there is not kept. b"" at or past the end."""
        check_range(offset, limit)
        path = self._paths(job).log_file(worker)
        try:
            return await asyncio.to_thread(logparts.read, path, offset, limit, self._read)
        except OSError as error:
            raise unavailable(path, error) from error

    async def log_size(self, job: Job, worker: int) -> int:
        """Return the offset behind the newest byte of a worker's log, 0 if there is none."""
        path = self._paths(job).log_file(worker)
        try:
            return await asyncio.to_thread(logparts.size, path, self._size)
        except OSError as error:
            raise unavailable(path, error) from error

    def _size(self, path: Path) -> int:
        try:
            fd = self._open(path)
        except FileNotFoundError:
            return 0
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    async def checkpoints(self, job: Job) -> tuple[Checkpoint, ...]:
        """Return the committed checkpoints, newest first."""
        manifests = await asyncio.to_thread(committed, self._paths(job))
        seen = (_checkpoint(manifest) for manifest in manifests)
        return tuple(checkpoint for checkpoint in seen if checkpoint is not None)

    async def files(self, job: Job, checkpoint: str | None) -> tuple[tuple[str, int], ...]:
        """Return (path, bytes) of a checkpoint's files, or of the output folder for None, sorted.
        Left out are links, files still being written (.tmp*), and names that are no UTF-8.
        Raises JobNotFound for an unknown checkpoint."""
        return await asyncio.to_thread(self._files, job, checkpoint)

    def _files(self, job: Job, checkpoint: str | None) -> tuple[tuple[str, int], ...]:
        tree = self._tree(job, checkpoint)
        try:
            return tree_files.listing(self._root, tree)
        except OSError as error:
            raise unavailable(tree, error) from error

    async def read_file(
        self, job: Job, checkpoint: str | None, path: str, offset: int, limit: int
    ) -> bytes:
        """Return at most limit bytes; b"" at the end. Raises JobNotFound for what is not a file
        below that tree: `..`, absolute paths and links are refused."""
        check_range(offset, limit)
        return await asyncio.to_thread(
            self._read_file, job, checkpoint, path, offset=offset, limit=limit
        )

    def _read_file(
        self, job: Job, checkpoint: str | None, path: str, *, offset: int, limit: int
    ) -> bytes:
        tree = self._tree(job, checkpoint)
        missing = JobNotFound(
            f"file {path!r} of {_what(job, checkpoint)}", "ListFiles names those that do"
        )
        if not tree_files.is_plain(path):
            raise missing
        try:
            return self._read(tree / path, offset, limit)
        except FileNotFoundError as error:
            raise missing from error

    async def has_source(self, namespace: str, claim: str, digest: str) -> bool:
        """Say whether the archive of that digest is there, and keep it for the namespace."""
        check_digest(digest)
        return await asyncio.to_thread(self._has_source, namespace, digest)

    def _has_source(self, namespace: str, digest: str) -> bool:
        archive = source_archive(self._root, digest)
        with self._sources:
            if not archive.is_file():
                return False
            try:
                touch(reference(self._root, namespace, digest))
                os.utime(archive)
            except OSError as error:
                raise unavailable(archive, error) from error
            return True

    def open_source(self, namespace: str, claim: str, digest: str, size: int) -> FolderSourceWriter:
        """Begin to receive an archive of that size in bytes. Raises InvalidJob."""
        return FolderSourceWriter(self._root, namespace, digest, size=size)

    async def delete_job(self, job: Job) -> None:
        """Remove all files of a job. Nothing happens if there are none."""
        await asyncio.to_thread(self._delete_job, job)

    def _delete_job(self, job: Job) -> None:
        folder = self._paths(job).folder
        self._lines.forget(job.uid)
        try:
            remove_tree(folder)
        except OSError as error:
            raise unavailable(folder, error) from error
        # The folders of the job and the namespace go with their last content; another job may
        # be moving in at this moment, then they stay.
        with suppress(OSError):
            folder.parent.rmdir()
            folder.parent.parent.rmdir()

    async def collect_sources(self, namespace: str, claim: str, keep: frozenset[str]) -> None:
        """Remove source archives that are not in keep and were not touched for an hour. One that
        another namespace uses stays."""
        await asyncio.to_thread(self._collect_sources, namespace, keep)

    def _collect_sources(self, namespace: str, keep: frozenset[str]) -> None:
        try:
            self._remove_unused(namespace, keep)
        except OSError as error:
            named = error.filename or self._root / SOURCES
            raise unavailable(Path(os.fsdecode(named)), error) from error

    def _remove_unused(self, namespace: str, keep: frozenset[str]) -> None:
        folder = self._root / SOURCES
        horizon = time.time() - _SOURCE_IDLE_S
        for path in _listing(reference(self._root, namespace, "")):
            with self._sources:
                if path.name not in keep and _older(path, horizon):
                    path.unlink(missing_ok=True)
        used = {
            path.name
            for other in _listing(reference(self._root, "", ""))
            for path in _listing(other)
        }
        for path in _listing(folder):
            digest = path.name.removesuffix(".tar.gz")
            if path.is_dir() or digest in used or digest in keep:
                continue
            with self._sources:
                # Also uploads that a dead controller left unfinished.
                if _older(path, horizon):
                    path.unlink(missing_ok=True)

    # --- Files

    def _paths(self, job: Job) -> JobPaths:
        return JobPaths(self._root, job.key.namespace, job.key.name, job.uid)

    def _tree(self, job: Job, checkpoint: str | None) -> Path:
        """Return the folder of an artifact. Raises JobNotFound for no committed checkpoint."""
        if checkpoint is None:
            return self._paths(job).output
        folder = self._paths(job).checkpoints / checkpoint
        if parse_checkpoint_id(checkpoint) is None or not (folder / MANIFEST).is_file():
            remedy = f"`taas checkpoints {job.key}` shows those that do"
            raise JobNotFound(_what(job, checkpoint), remedy)
        return folder

    def _open(self, path: Path) -> int:
        """Open a file below the root. Raises FileNotFoundError for what is no plain file."""
        try:
            return tree_files.open_file(self._root, path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unavailable(path, error) from error

    def _read(self, path: Path, offset: int, limit: int) -> bytes:
        fd = self._open(path)
        try:
            return os.pread(fd, limit, offset)
        except OSError as error:
            raise unavailable(path, error) from error
        finally:
            os.close(fd)


def _checkpoint(manifest: Manifest) -> Checkpoint | None:
    try:
        created = datetime.fromtimestamp(manifest.time, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return Checkpoint(
        id=manifest.id,
        step=manifest.step,
        generation=manifest.generation,
        size_bytes=manifest.size,
        created=created,
        metrics=tuple(sorted(manifest.metrics.items())),
    )


def _what(job: Job, checkpoint: str | None) -> str:
    return (
        f"output of {job.key}" if checkpoint is None else f"checkpoint {checkpoint!r} of {job.key}"
    )


def check_range(offset: int, limit: int) -> None:
    """Raise InvalidJob unless both are numbers of bytes."""
    for name, value in (("offset", offset), ("limit", limit)):
        if not 0 <= value < 2**63:
            raise InvalidJob(name, f"is {value}; give a number of bytes from 0 on")


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _older(path: Path, horizon: float) -> bool:
    try:
        return path.stat().st_mtime < horizon
    except FileNotFoundError:
        return False
