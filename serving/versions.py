"""Which versions of a model are loaded and which are let go. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

# Seconds until a version that could not be loaded is tried again: doubles each time. Its files
# may still be on their way.
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0


class State(Enum):
    """Where a version is in its life; the names are those of TensorFlow Serving."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a version. failures: attempts to load it since it was last available;
    failed_at: when the last one was, in seconds on any clock that moves forward."""

    state: State
    error: str = ""
    failures: int = 0
    failed_at: float = 0.0

    def retry_at(self) -> float:
        """Return when a version that could not be loaded is tried again."""
        return self.failed_at + min(FIRST_RETRY_S * (1 << min(self.failures - 1, 10)), LAST_RETRY_S)


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do: load these, newest first; let go of these; forget those that failed."""

    load: tuple[int, ...] = ()
    unload: tuple[int, ...] = ()
    forget: tuple[int, ...] = ()


def plan(
    found: Collection[int] | None, seen: Mapping[int, Seen], *, keep: int, now: float
) -> Changes:
    """Say what to do with a model whose folder has these versions; None: the folder is gone.

    The newest `keep` are wanted; one that cannot be loaded does not count, so the next older
    takes its place until it can. Nothing is let go before a wanted version is available, and
    the last one of a folder that has become empty stays.
    """
    if found is None:
        held = tuple(v for v, s in seen.items() if s.state is State.AVAILABLE)
        return Changes((), held, _ended(seen, ()))
    failed = {v for v, s in seen.items() if s.state is State.END and s.failures}
    newest_first = sorted(found, reverse=True)
    wanted = [v for v in newest_first if v not in failed][:keep]
    least = wanted[-1] if len(wanted) == keep else -1
    again = [v for v in newest_first if v in failed and v > least and now >= seen[v].retry_at()]
    load = [v for v in wanted if v not in seen or seen[v].state in (State.START, State.UNLOADING)]
    available = {v for v, s in seen.items() if s.state is State.AVAILABLE}
    ready = any(v in available for v in wanted)
    unload = sorted(available - set(wanted)) if ready else []
    order = tuple(sorted((*load, *again), reverse=True))
    return Changes(order, tuple(unload), _ended(seen, found))


def _ended(seen: Mapping[int, Seen], found: Collection[int]) -> tuple[int, ...]:
    return tuple(v for v, s in seen.items() if s.state is State.END and v not in found)


def ready(models: Collection[Mapping[int, Seen]]) -> bool:
    """Tell whether it is time to take questions: each model is available or has failed, and at
    least one is available."""
    states = [{s.state for s in versions.values()} for versions in models]
    tried = all(State.AVAILABLE in s or s == {State.END} for s in states)
    return tried and any(State.AVAILABLE in s for s in states)
