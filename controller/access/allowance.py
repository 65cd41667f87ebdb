"""How many bytes a caller may still bring: an hour's worth at once, then as time passes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from controller.errors import LimitExceeded

_HOUR_S = 3600.0
# Callers that are remembered; who is forgotten begins again with the whole.
_MOST_CALLERS = 10_000


class Allowance:
    """What is left to whom. `clock` gives seconds that never go back."""

    def __init__(self, bytes_per_hour: int, clock: Callable[[], float]) -> None:
        self._most = bytes_per_hour
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # bytes, and when

    def take(self, caller: str, size: int) -> None:
        """Use up so many bytes. Raises LimitExceeded, and then uses none."""
        now = self._clock()
        left, then = self._left.get(caller, (float(self._most), now))
        left = min(self._most, left + (now - then) * self._most / _HOUR_S)
        if size > left:
            raise LimitExceeded(
                "header.source.sizeBytes",
                f"{caller} may upload {self._most} bytes in an hour, and {int(left)} are left of "
                f"them, fewer than {size}; wait, or put data on the shared storage",
            )
        self._left[caller] = (left - size, now)
        self._left.move_to_end(caller)
        if len(self._left) > _MOST_CALLERS:
            self._left.popitem(last=False)
