"""Unpacks a job's source archive, which is not to be trusted. Stdlib only."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
import tarfile
import zlib
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from trainer.storage import open_regular, read_small, source_archive

MOST_BYTES = 4 * 1024**3
MOST_FILES = 100_000
# tarfile reads the headers before a member whole, whatever size they claim and however many there
# are: names, attributes, maps of sparse files.
_MOST_HEADER = 1024 * 1024
_CHUNK = 256 * 1024
# What the file system says to names that are too long, or are both a file and a folder.
_UNFIT_NAME = (errno.ENAMETOOLONG, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)


class InvalidSource(Exception):
    """The archive is missing, damaged or not acceptable; the text says which and what to do."""


def unpack_source(
    root: Path,
    digest: str,
    scratch: Path,
    *,
    most_bytes: int = MOST_BYTES,
    most_files: int = MOST_FILES,
) -> Path:
    """Unpack <root>/sources/<digest>.tar.gz into <scratch>/source and return that folder.

    Done once: if the folder holds that digest already, nothing happens. Only regular files and
    folders below the target are accepted. Raises InvalidSource for what is wrong with the
    archive, and OSError for what is wrong with the disks.
    """
    target, marker = scratch / "source", scratch / "source.digest"
    if _says(marker, digest) and target.is_dir():
        return target
    archive = source_archive(root, digest)
    scratch.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    fresh = scratch / "source.new"
    for folder in (fresh, target):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        file = open_regular(archive)
    except FileNotFoundError as error:
        raise InvalidSource(
            f"the source archive {archive} is missing; submit the job again to upload it"
        ) from error
    except ValueError as error:
        raise InvalidSource(f"{error}; delete it and submit the job again") from error
    with file:
        _verify(file, archive, digest)
        file.seek(0)
        _unpack(file, archive, fresh, most_bytes=most_bytes, most_files=most_files)
    fresh.rename(target)
    marker.write_text(digest)
    return target


def _says(marker: Path, digest: str) -> bool:
    """Say whether that digest was unpacked. The program could have written anything there."""
    try:
        return read_small(marker) == digest
    except (OSError, ValueError):
        return False


def _verify(file: BufferedReader, archive: Path, digest: str) -> None:
    found = hashlib.sha256()
    while data := file.read(_CHUNK):
        found.update(data)
    if found.hexdigest() != digest:
        raise InvalidSource(
            f"the source archive {archive} is damaged: its SHA-256 is {found.hexdigest()}, "
            f"not {digest}; delete it and submit the job again"
        )


class _Cautious(gzip.GzipFile):
    """A stream for tarfile that refuses to give more than `left`; see _MOST_HEADER."""

    left = _MOST_HEADER

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise tarfile.ReadError(f"a header claims {size} bytes, or headers go on for ever")
        self.left -= size
        return super().read(size)


def _unpack(
    file: BinaryIO, archive: Path, fresh: Path, *, most_bytes: int, most_files: int
) -> None:
    fresh.mkdir()
    total = count = 0
    try:
        with (
            _Cautious(fileobj=file, mode="rb") as stream,
            tarfile.open(fileobj=stream, mode="r:") as tar,
        ):
            for member in tar:
                if member.size < 0:
                    raise tarfile.ReadError(f"{member.name!r} claims {member.size} bytes")
                total += member.size
                count += 1
                if total > most_bytes:
                    raise InvalidSource(f"the source unpacks to more than {most_bytes} bytes")
                if count > most_files:
                    raise InvalidSource(f"the source has more than {most_files} files")
                stream.left = member.size
                _extract(tar, member, fresh)
                stream.left = _MOST_HEADER
                # tarfile remembers every member, and what headers say of all; none is needed again.
                tar.members.clear()  # type: ignore[attr-defined]
                tar.pax_headers = {}
    except (
        tarfile.TarError,
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        ValueError,
        IndexError,  # a header that is cut off
        RecursionError,  # extended headers of extended headers
    ) as error:
        raise InvalidSource(
            f"the source archive {archive} is no gzip-compressed tar archive: {error}"
        ) from error


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, fresh: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise InvalidSource(f"the source holds {member.name!r}, which leaves its folder")
    target = fresh / path
    try:
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            return
        if member.issparse():
            # Its map may have the archive read back and forth without end.
            raise InvalidSource(
                f"the source holds {member.name!r} in sparse form; pack it without --sparse"
            )
        content = tar.extractfile(member) if member.isreg() else None
        if content is None:
            raise InvalidSource(
                f"the source holds {member.name!r}, which is neither a file nor a folder; "
                "replace links by what they point to"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        # Of the mode only "executable" is taken over.
        mode = 0o755 if member.mode & 0o111 else 0o644
        out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with content, os.fdopen(out, "wb") as copy:
            shutil.copyfileobj(content, copy, _CHUNK)
    except OSError as error:
        if error.errno not in _UNFIT_NAME:
            raise
        raise InvalidSource(
            f"the source holds {member.name!r}, which cannot be made: {error.strerror}"
        ) from error
