"""When the service is to end, and when it is to be quick about it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ending:
    """`begun` is set once somebody wishes the end, `hurried` when it is not to be waited for."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)
    _signals: int = 0

    def signalled(self) -> None:
        """Take a signal: the first begins the end, a second hurries it."""
        self._signals += 1
        self.begun.set()
        if self._signals > 1:
            self.hurried.set()

    def left(self) -> None:
        """Take that whoever started the service has left. He may have sent a signal as well, before
        or after: that is one wish, and no hurry."""
        self.begun.set()
