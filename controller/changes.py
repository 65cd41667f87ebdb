"""Tells readers which jobs changed; however slow a reader is, it holds one key a job."""

from __future__ import annotations

import asyncio
import weakref

from controller.model import JobKey


class ChangeReader:
    """Yields changed keys, each once for all changes since it was last yielded."""

    def __init__(self) -> None:
        # A dict keeps the order of arrival, so that no job starves behind a busy one.
        self._dirty: dict[JobKey, None] = {}
        self._stirred = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> ChangeReader:
        return self

    async def __anext__(self) -> JobKey:
        while not self._dirty:
            if self._closed:
                raise StopAsyncIteration
            self._stirred.clear()
            await self._stirred.wait()
        key = next(iter(self._dirty))
        del self._dirty[key]
        return key

    def mark(self, key: JobKey) -> None:
        """Note that a job changed."""
        self._dirty[key] = None
        self._stirred.set()

    def close(self) -> None:
        """End the iteration after what is noted already."""
        self._closed = True
        self._stirred.set()


class Changes:
    """Fans changes out to any number of readers. A reader that is dropped is forgotten."""

    def __init__(self) -> None:
        self._readers: weakref.WeakSet[ChangeReader] = weakref.WeakSet()

    def reader(self) -> ChangeReader:
        """Return a reader of what changes from now on, before it is first waited for as well."""
        reader = ChangeReader()
        self._readers.add(reader)
        return reader

    def tell(self, key: JobKey) -> None:
        """Tell all readers that a job changed."""
        for reader in self._readers:
            reader.mark(key)

    def close(self) -> None:
        """End all readers."""
        for reader in self._readers:
            reader.close()
