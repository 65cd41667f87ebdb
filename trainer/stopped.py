"""Notices a process that somebody has stopped (SIGSTOP) and not continued. Stdlib only."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from trainer import procfs

_EVERY_S = 0.5
# Somebody who looks at a process may stop it for a moment. Peers of a trainer notice that it
# does not answer after 3 s at the earliest, and know less about why.
LIMIT_S = 2.0


async def until_stopped(pid: int) -> datetime:
    """Return since when a process has been stopped, once that is LIMIT_S ago; never, unless it
    is. To be cancelled when the process has ended."""
    loop = asyncio.get_running_loop()
    began: tuple[float, datetime] | None = None
    while True:
        if not _is_stopped(pid):
            began = None
        elif began is None:
            began = (loop.time(), datetime.now(UTC))
        elif loop.time() - began[0] >= LIMIT_S:
            return began[1]
        await asyncio.sleep(_EVERY_S)


def _is_stopped(pid: int) -> bool:
    """Say so of a process that is stopped, but not of one that a debugger has stopped."""
    try:
        return procfs.stat(pid)[procfs.STATE] == "T"
    except OSError:
        return False
