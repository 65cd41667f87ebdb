"""Receives source archives: nothing is visible before it is whole, checked and on disk."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from controller.errors import ClusterUnavailable, InvalidJob
from trainer.storage import source_archive

SOURCES = "sources"
# Below the sources: one empty file for each namespace and source it uses, so that a namespace
# which needs a source no more takes it from no other.
_REFERENCES = ".references"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


def check_digest(digest: str) -> None:
    """Raise InvalidJob unless the text is a SHA-256 in lower-case hexadecimal."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidJob(
            "header.source.digest",
            f"{digest[:80]!r} is no SHA-256; give 64 lower-case hexadecimal digits",
        )


def reference(root: Path, namespace: str, digest: str) -> Path:
    """Return the file that says that a namespace uses a source, or its folder for ""."""
    return root / SOURCES / _REFERENCES / namespace / digest


def touch(path: Path) -> None:
    """Make an empty file, or make it new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def unavailable(path: Path, error: OSError) -> ClusterUnavailable:
    """Return what to tell when the disk refuses."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "make room on its disk" if full else "check its disk and its permissions"
    return ClusterUnavailable(f"{path}: {error.strerror or error}; {remedy}")


class FolderSourceWriter:
    """The SourceWriter over a folder. After an error, commit or abort it is of no more use."""

    def __init__(self, root: Path, namespace: str, digest: str, *, size: int) -> None:
        check_digest(digest)
        if size < 0:
            raise InvalidJob(
                "header.source.sizeBytes", f"is {size}; give the archive's size in bytes"
            )
        self._archive = source_archive(root, digest)
        self._reference = reference(root, namespace, digest)
        self._digest = digest
        self._size = size
        self._received = 0
        self._sha256 = hashlib.sha256()
        # A name of its own: several clients may bring the same archive at once.
        self._part = self._archive.with_name(f".tmp-{uuid.uuid4()}")
        self._file: BinaryIO | None = None
        # A cancelled write goes on in its thread: what aborts the upload waits for it here, and
        # what comes after it writes nothing.
        self._disk = threading.Lock()
        self._over = False

    async def write(self, data: bytes) -> None:
        """Append. Raises InvalidJob when there is more than was announced."""
        self._received += len(data)
        if self._received > self._size:
            await self.abort()
            raise InvalidJob(
                "header.source.sizeBytes",
                f"announces {self._size} bytes and more came; announce the archive's true size",
            )
        await self._on_disk(lambda: self._append(data))

    async def commit(self) -> None:
        """Check size and digest, then publish durably. Raises InvalidJob, and keeps nothing."""
        if self._received != self._size:
            await self.abort()
            raise InvalidJob(
                "header.source.sizeBytes",
                f"announces {self._size} bytes and {self._received} came; send the whole archive",
            )
        found = self._sha256.hexdigest()
        if found != self._digest:
            await self.abort()
            raise InvalidJob(
                "header.source.digest",
                f"is {self._digest} and the archive that came has {found}; send the archive that "
                "the digest was made from",
            )
        await self._on_disk(self._publish)

    async def abort(self) -> None:
        """Throw away what was received. Nothing happens after a commit."""
        # Whoever aborts is often being cancelled, perhaps again: the file is to go all the same,
        # and a thread's work that has not begun would be cancelled with its caller.
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(None, self._discard))

    async def _on_disk(self, work: Callable[[], _T]) -> _T:
        def alone() -> _T:
            with self._disk:
                return work()

        try:
            return await asyncio.to_thread(alone)
        except OSError as error:
            await self.abort()
            raise unavailable(self._archive.parent, error) from error

    # --- In threads

    def _opened(self) -> BinaryIO:
        if self._over:
            raise OSError(errno.ECANCELED, "the upload is over")
        if self._file is None:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("xb")
        return self._file

    def _append(self, data: bytes) -> None:
        self._opened().write(data)
        self._sha256.update(data)

    def _publish(self) -> None:
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        touch(self._reference)
        self._part.replace(self._archive)
        folder = os.open(self._archive.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _discard(self) -> None:
        with self._disk:
            self._over = True
            if self._file is None:
                return
            try:
                self._file.close()
            except OSError:  # what it still holds cannot be written and is not wanted
                pass
            finally:
                self._part.unlink(missing_ok=True)
