"""Tasks that belong to an object which is open for as long as an `async with` block runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """Tasks of one owner. One that fails ends the owner's block with its error."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Allow tasks, from within the task that will also close."""
        await self._group.__aenter__()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task until it ends or close cancels it."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Cancel what runs and wait for it. Raises an ExceptionGroup if a task has failed."""
        for task in self._tasks:
            task.cancel()
        # Without the error of the block, which the group would wrap.
        await self._group.__aexit__(None, None, None)
