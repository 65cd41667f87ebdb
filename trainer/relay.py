"""How what the evaluator finds gets into the job's history: it leaves files, and the chief tells
them with everything else, so that the history has one writer. Neither waits for the other. Stdlib
only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainer.storage import LOOKING, NEW, Evaluated, JobPaths, read_small


def claim(paths: JobPaths, checkpoint: str) -> bool:
    """Ask the chief to keep a checkpoint until the next one is claimed. Returns False if it is
    gone already. Raises OSError."""
    paths.evaluations.mkdir(parents=True, exist_ok=True)
    _put(paths.evaluations / LOOKING, checkpoint)
    return (paths.checkpoints / checkpoint).is_dir()


def claimed(paths: JobPaths) -> str:
    """Return the checkpoint that the evaluator has not done with, "" if there is none."""
    try:
        return read_small(paths.evaluations / LOOKING)
    except (OSError, ValueError):
        return ""


def leave(paths: JobPaths, found: Evaluated) -> None:
    """Leave what was found for the chief to tell, in one step. Raises OSError."""
    folder = paths.evaluations / NEW
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / f"{found.id}.json", found.to_json())


def _put(place: Path, text: str) -> None:
    part = place.with_suffix(".tmp")
    part.write_text(text)
    part.rename(place)


def is_known(paths: JobPaths, checkpoint: str) -> bool:
    """Tell whether a checkpoint has been looked at."""
    folders = (paths.evaluations, paths.evaluations / NEW)
    return any((folder / f"{checkpoint}.json").exists() for folder in folders)


class Relay:
    """The chief's side: tells what was found."""

    def __init__(self, paths: JobPaths, tell: Callable[[Evaluated], None]) -> None:
        """`tell` is called with each evaluation; twice if the chief ends in the middle of it."""
        self._paths = paths
        self._tell = tell

    def look(self) -> None:
        """Tell what is new, by step. What cannot be read or written now waits for the next look."""
        try:
            new = sorted((self._paths.evaluations / NEW).glob("step-*.json"))
            for place in new:
                self._take(place)
            if new:
                self._forget()
        except OSError:
            return

    def _take(self, place: Path) -> None:
        try:
            found = Evaluated.from_json(read_small(place))
        except ValueError:
            place.unlink()
            return
        self._tell(found)
        place.rename(self._paths.evaluations / place.name)

    def _forget(self) -> None:
        """Remove what is known of checkpoints that are no more."""
        here = {path.name for path in self._paths.checkpoints.glob("step-*")}
        for place in self._paths.evaluations.glob("step-*.json"):
            if place.stem not in here:
                place.unlink(missing_ok=True)
