"""Long work in small slices, so that nobody waits for the whole of what others asked for.

The controller serves everybody in one thread. In a turn of its event loop one slice of such work
is done, whoever asked for it, and those who ask for some take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar
from weakref import WeakValueDictionary

Item = TypeVar("Item")
Made = TypeVar("Made")

# To make a message of a job takes a tenth of a millisecond. Another one's call takes some dozens of
# turns from its arrival to its answer.
_AT_ONCE = 2


class Slices:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._callers: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def each(
        self, caller: str, make: Callable[[Item], Made], items: Sequence[Item]
    ) -> list[Made]:
        """Return what `make` makes of each item."""
        made: list[Made] = []
        own = self._callers.get(caller)
        if own is None:
            own = self._callers[caller] = asyncio.Lock()
        # One of a caller's lists at a time: so it is callers who take turns, not their calls.
        async with own:
            for start in range(0, len(items), _AT_ONCE):
                async with self._turn:
                    await asyncio.sleep(0)
                    made += map(make, items[start : start + _AT_ONCE])
        return made
