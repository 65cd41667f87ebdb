"""One SQLite file behind one thread: the event loop never waits for the disk, and writes that
queue up while the disk is busy share the next commit."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from controller.errors import ClusterUnavailable

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# Writes of one commit: enough to spread the price of a flush, few enough to bound the wait.
_MAX_BATCH = 256


@dataclass(frozen=True, slots=True)
class Schema:
    """What a file holds. version is stored as user_version; raise it with every change."""

    version: int
    script: str


@dataclass(slots=True)
class _Write:
    change: Callable[[sqlite3.Connection], Any]
    answer: asyncio.Future[Any]
    committed: Callable[[Any], None] | None
    value: Any = None
    error: BaseException | None = None


class Database:
    """A SQLite file. A write that has returned survives the loss of power.

    Reads and writes are functions that get the connection and run in its thread. Each write
    happens as a whole or not at all. Errors of SQLite come out as ClusterUnavailable naming
    the file and the remedy.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._schema = schema
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"taas-{path.stem}")
        self._connection: sqlite3.Connection | None = None
        self._pending: deque[_Write] = deque()
        self._committing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def open(self) -> None:
        """Open the file, creating it if there is none."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Finish what is queued and close the file."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a query on what is committed."""
        self._check_open()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._run_read, query)

    async def write(
        self,
        change: Callable[[sqlite3.Connection], _T],
        committed: Callable[[_T], None] | None = None,
    ) -> _T:
        """Run a change, alone or with others in one commit, and return its result.

        An error that the change raises undoes it alone. `committed` is called with the result in
        the event loop once it is durable, even if the caller has gone away meanwhile.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        write = _Write(change, loop.create_future(), committed)
        self._pending.append(write)
        if not self._committing:
            self._commit_next(loop)
        result: _T = await write.answer
        return result

    def _check_open(self) -> None:
        if self._closed:
            raise ClusterUnavailable(f"{self.path} is closed; the controller is stopping")

    # --- In the event loop

    def _commit_next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._committing = bool(self._pending)
        if self._committing:
            self._idle.clear()
            self._thread.submit(self._run_batch, loop)
        else:
            self._idle.set()

    def _deliver(self, batch: list[_Write], loop: asyncio.AbstractEventLoop) -> None:
        for write in batch:
            if write.error is None and write.committed is not None:
                write.committed(write.value)
            if write.answer.done():  # the caller was cancelled
                continue
            if write.error is None:
                write.answer.set_result(write.value)
            else:
                write.answer.set_exception(write.error)
        self._commit_next(loop)

    # --- In the thread

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._connection = connection
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > self._schema.version:
                raise ClusterUnavailable(
                    f"{self.path} was written by a newer version of taas (schema {version}, this "
                    f"one knows {self._schema.version}); upgrade taas or choose another state "
                    "folder"
                )
            sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if sound != "ok":
                raise sqlite3.DatabaseError(sound)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if version == 0:
                connection.executescript(
                    f"BEGIN; {self._schema.script}"
                    f"PRAGMA user_version = {self._schema.version}; COMMIT;"
                )
        except OSError as error:
            raise ClusterUnavailable(f"{self.path}: its folder cannot be made: {error}") from error
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _run_read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        assert self._connection is not None, "open() comes first"
        try:
            return query(self._connection)
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _run_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[_Write] = []
        while self._pending and len(batch) < _MAX_BATCH:
            batch.append(self._pending.popleft())
        try:
            self._commit(batch)
        except sqlite3.Error as error:
            self._undo()
            _log.error("%s: %s", self.path, error)
            for write in batch:
                write.error = self._unavailable(error)
        # A loop that closed meanwhile has nobody left to tell.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._deliver, batch, loop)

    def _commit(self, batch: list[_Write]) -> None:
        assert self._connection is not None, "open() comes first"
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for write in batch:
            execute("SAVEPOINT one")
            try:
                write.value = write.change(self._connection)
            except Exception as error:  # not swallowed: handed to the caller, as a future does
                write.error = error
                execute("ROLLBACK TO one")
            execute("RELEASE one")
        execute("COMMIT")
        for write in batch:
            if isinstance(write.error, sqlite3.Error):
                write.error = self._unavailable(write.error)

    def _undo(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _unavailable(self, error: sqlite3.Error) -> ClusterUnavailable:
        # SQLite reports a damaged file as this class itself, anything else as one below it.
        if type(error) is sqlite3.DatabaseError:
            return ClusterUnavailable(
                f"{self.path} is damaged ({error}); move it away together with its -wal and -shm "
                "files and start again with none, or put a copy of it back; checkpoints and "
                "outputs in the storage folder are not touched"
            )
        return ClusterUnavailable(
            f"{self.path}: {error}; check that its folder can be written and the disk has room"
        )
