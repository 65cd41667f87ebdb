"""Packs a source folder, or one Python file, into an archive whose digest names its content.

The same content gives the same archive: entries are sorted, times are zero, owners are root,
permissions are reduced to "executable or not". Nothing is held in memory but file names.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pathspec

from taas import units
from taas.errors import InvalidRequest, LimitExceeded, TaasError

MAX_ARCHIVE_BYTES = 512 << 20
MAX_FILES = 100_000
# Code rarely packs better than 4:1. A folder beyond that is refused before minutes are spent on
# packing what is data in all likelihood.
_MAX_RATIO = 4
IGNORE_FILES = (".taasignore", ".gitignore")
_NEVER_PACKED = frozenset({".git", "__pycache__", ".venv"})

# Called with bytes of files packed and bytes of all files.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive in a temporary file, removed on leaving the context.

    `digest` is the lower-case hex SHA-256 of the archive, `files` how many files are in it.
    """

    path: Path
    digest: str
    size_bytes: int
    files: int

    def __enter__(self) -> Packed:
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What goes into the archive: name in it, where its content lies, size (0 for folders)."""

    name: str
    path: Path
    size: int
    folder: bool = False


def pack(
    source: Path,
    *,
    max_bytes: int = MAX_ARCHIVE_BYTES,
    max_files: int = MAX_FILES,
    progress: Progress | None = None,
) -> Packed:
    """Pack a folder or one file. Raises InvalidRequest, LimitExceeded: they name the file."""
    entries = _entries(source, max_files)
    total = sum(entry.size for entry in entries)
    if total > max_bytes * _MAX_RATIO:
        raise _too_big(source, entries, f"holds {units.size(total)}", max_bytes)
    handle, name = tempfile.mkstemp(prefix="taas-source-", suffix=".tar.gz")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            sink = _Sink(file, path, max_bytes)
            try:
                _write(entries, sink, total, progress)
            except _Full:
                raise _too_big(
                    source, entries, f"packs to more than {units.size(max_bytes)}", max_bytes
                ) from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    files = sum(not entry.folder for entry in entries)
    return Packed(path, sink.digest.hexdigest(), sink.size, files)


def _entries(source: Path, max_files: int) -> tuple[_Entry, ...]:
    """Return what is to be packed, sorted by name; a folder comes before what is in it."""
    if source.is_file():
        return (_file_entry(source, source.name),)
    if not source.is_dir():
        raise InvalidRequest.of("source", f"{source} is neither a folder nor a file")
    entries = []
    files = 0
    for entry in _walk(source, source, _ignored(source)):
        files += not entry.folder
        if files > max_files:
            raise LimitExceeded(
                f"{source} holds more than {max_files:,} files; put data on the shared storage, "
                "or list it in .taasignore"
            )
        entries.append(entry)
    if not files:
        raise InvalidRequest.of("source", f"{source} holds no files to pack")
    return tuple(sorted(entries, key=lambda entry: entry.name))


def _walk(root: Path, folder: Path, ignored: pathspec.GitIgnoreSpec) -> Iterator[_Entry]:
    try:
        found = sorted(os.scandir(folder), key=lambda item: item.name)
    except OSError as error:
        raise _unreadable(folder, error) from error
    for item in found:
        path = folder / item.name
        name = path.relative_to(root).as_posix()
        is_folder = item.is_dir(follow_symlinks=False)
        if item.name in _NEVER_PACKED or ignored.match_file(f"{name}/" if is_folder else name):
            continue
        _check_name(path)
        if is_folder:
            yield _Entry(name, path, 0, folder=True)
            yield from _walk(root, path, ignored)
        elif item.is_symlink():
            yield _linked(root, path, name)
        else:
            yield _file_entry(path, name)


def _ignored(root: Path) -> pathspec.GitIgnoreSpec:
    """Read the patterns of .taasignore, else of .gitignore."""
    for name in IGNORE_FILES:
        path = root / name
        try:
            return pathspec.GitIgnoreSpec.from_lines(path.read_text("utf-8").splitlines())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unreadable(path, error) from error
        except ValueError as error:
            raise InvalidRequest.of("source", f"{path}: {error}; correct the pattern") from error
    return pathspec.GitIgnoreSpec.from_lines([])


def _file_entry(path: Path, name: str) -> _Entry:
    try:
        seen = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(seen.st_mode):
        raise InvalidRequest.of(
            "source",
            f"{path} is a device, pipe or socket; remove it, or list it in .taasignore",
        )
    return _Entry(name, path, seen.st_size)


def _linked(root: Path, path: Path, name: str) -> _Entry:
    """Return the content of a link, which is packed in its place: archives hold no links."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself, before 3.13
        raise InvalidRequest.of(
            "source",
            f"{path} is a link that leads nowhere; remove it, or list it in .taasignore",
        ) from error
    if not target.is_relative_to(root.resolve()):
        raise InvalidRequest.of(
            "source",
            f"{path} is a link that leads out of the folder, to {target}; copy the file in, "
            "or list the link in .taasignore",
        )
    if target.is_dir():
        raise InvalidRequest.of(
            "source",
            f"{path} is a link to a folder; copy the folder, or list the link in .taasignore",
        )
    return _file_entry(target, name)


def _check_name(path: Path) -> None:
    try:
        path.name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest.of(
            "source", f"the name of {str(path)!a} is not UTF-8; rename it"
        ) from error


class _Full(Exception):
    """The archive has reached its limit."""


class _Sink:
    """Receives the archive: writes, counts and hashes it, and stops at the limit."""

    def __init__(self, file: BinaryIO, path: Path, max_bytes: int) -> None:
        self._file = file
        self._path = path
        self._max_bytes = max_bytes
        self.digest = hashlib.sha256()
        self.size = 0
        # Set once the archive is given up; gzip writes a last time when it is closed.
        self.discard = False

    def write(self, data: bytes) -> int:
        if self.discard:
            return len(data)
        self.size += len(data)
        if self.size > self._max_bytes:
            raise _Full
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            raise TaasError(
                f"the archive cannot be written to {self._path.parent}: {error.strerror}; "
                "set TMPDIR to a folder with room"
            ) from error

    def flush(self) -> None:
        """Nothing waits here: the file below is flushed when it is closed."""


def _write(entries: tuple[_Entry, ...], sink: _Sink, total: int, progress: Progress | None) -> None:
    packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=sink, mtime=0)
    try:
        archive = tarfile.TarFile(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT)
        done = 0
        for entry in entries:
            _add(archive, entry)
            done += entry.size
            if progress is not None:
                progress(done, total)
        archive.close()
    except BaseException:
        sink.discard = True
        raise
    finally:
        packed.close()


def _add(archive: tarfile.TarFile, entry: _Entry) -> None:
    if entry.folder:
        archive.addfile(_header(entry, 0, 0o755))
        return
    try:
        with entry.path.open("rb") as content:
            seen = os.fstat(content.fileno())
            mode = 0o755 if seen.st_mode & stat.S_IXUSR else 0o644
            archive.addfile(_header(entry, seen.st_size, mode), content)
    except OSError as error:
        raise _unreadable(entry.path, error) from error


def _header(entry: _Entry, size: int, mode: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(entry.name)
    header.size = size
    header.mode = mode
    if entry.folder:
        header.type = tarfile.DIRTYPE
    return header


def _unreadable(path: Path, error: OSError) -> InvalidRequest:
    # tarfile raises OSError without strerror when a file became shorter under its hands.
    why = error.strerror or "it changed while it was read"
    return InvalidRequest.of(
        "source", f"{path} cannot be read: {why}; make it readable, or list it in .taasignore"
    )


def _too_big(source: Path, entries: tuple[_Entry, ...], what: str, max_bytes: int) -> LimitExceeded:
    biggest = sorted(entries, key=lambda entry: entry.size, reverse=True)[:3]
    names = ", ".join(f"{entry.name} ({units.size(entry.size)})" for entry in biggest)
    return LimitExceeded(
        f"{source} {what}, the limit for a packed source is {units.size(max_bytes)}; biggest "
        f"files: {names}. Put data on the shared storage, or list it in .taasignore"
    )
