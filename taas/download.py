"""Brings a tree of files here: in parallel, resumable, and visible only when it is complete."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from protos.taas.v1.training_service_pb2 import File
from taas.errors import InternalError, TaasError

_PART = ".taas-part"
# Enough to hide the round trips of small files.
_THREADS = 4


# Yields the bytes of a file of the tree, from an offset on.
OpenFile = Callable[[str, int], Iterator[bytes]]


def fetch_tree(
    files: Sequence[File],
    folder: Path,
    open_file: OpenFile,
    stopped: threading.Event,
    *,
    staging: str,
    resume: bool,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, ...]:
    """Fetch files into a folder and return where they are.

    They gather in folder/staging, which stays when the download is broken off; with `resume` the
    next one goes on from what is there. Only when all are complete each moves to its place.
    `stopped` is set when the work is over, so that what `open_file` opened ends as well.
    """
    for file in files:
        check_path(file.path)
    gathered = folder / staging
    try:
        if not resume:
            shutil.rmtree(gathered, ignore_errors=True)
        gathered.mkdir(parents=True, exist_ok=True)
        tally = _Tally(sum(file.size_bytes for file in files), progress, stopped)
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="download")
        try:
            for done in [pool.submit(_fetch, f, gathered, open_file, tally) for f in files]:
                done.result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
        return _publish(files, gathered, folder)
    except OSError as error:
        where = error.filename or folder
        raise TaasError(f"{where}: {error.strerror}; mend that or choose another folder") from error


class _Tally:
    """Counts bytes of all files together, and ends every thread once the work is stopped."""

    def __init__(
        self,
        total: int,
        progress: Callable[[int, int], None] | None,
        stopped: threading.Event,
    ) -> None:
        self._lock = threading.Lock()
        self._total = total
        self._done = 0
        self._progress = progress
        self._stopped = stopped

    def add(self, count: int) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise _Stopped
            self._done += count
            if self._progress is not None:
                self._progress(self._done, max(self._total, self._done))


class _Stopped(Exception):
    """Another file of the tree failed; never leaves this module."""


def _fetch(file: File, gathered: Path, open_file: OpenFile, tally: _Tally) -> None:
    complete = gathered / file.path
    if complete.is_file():
        tally.add(complete.stat().st_size)
        return
    complete.parent.mkdir(parents=True, exist_ok=True)
    part = complete.with_name(complete.name + _PART)
    with part.open("ab") as out:
        offset = out.tell()
        if offset > file.size_bytes:
            out.truncate(0)
            offset = 0
        tally.add(offset)
        left = file.size_bytes - offset
        for data in open_file(file.path, offset):
            # No more than was announced: a program may write on for ever.
            announced = data[:left]
            out.write(announced)
            tally.add(len(announced))
            left -= len(announced)
            if not left:
                break
    if left:
        size = file.size_bytes - left
        raise InternalError(
            f"{file.path} ended after {size:,} of {file.size_bytes:,} bytes; download again"
        )
    part.replace(complete)


def _publish(files: Sequence[File], gathered: Path, folder: Path) -> tuple[Path, ...]:
    places = []
    for file in files:
        place = folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(gathered / file.path, place)
        places.append(place)
    shutil.rmtree(gathered, ignore_errors=True)
    return tuple(places)


def check_path(path: str) -> None:
    """Raise InternalError for a path that would leave the folder: what a job wrote is not trusted
    here."""
    parts = PurePosixPath(path)
    if not parts.parts or parts.is_absolute() or ".." in parts.parts or "\0" in path:
        raise InternalError(f"the service named the file {path!r}, which is outside its tree")
