"""Keeps the versions that are served in step with those on the disk.

A new version takes over in one moment: it is loaded and warmed up beside the old one, then every
question that comes is its, while those that the old one has been asked are still answered by it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from serving import folders, versions
from serving.errors import Code, Refused
from serving.lane import Lane, Limits
from serving.models import Model
from serving.versions import Seen, State
from trainer.exported import NotAModel

_log = logging.getLogger(__name__)

# Returns a model that has been warmed up; raises NotAModel.
Load = Callable[[Path], Model]


@dataclass
class Version:
    """One version of a model, while it is of interest."""

    name: str
    number: int
    seen: Seen
    model: Model | None = None
    lanes: Mapping[str, Lane] = field(default_factory=dict)
    # Questions that are being answered.
    in_flight: int = 0

    def lane(self, signature: str) -> Lane:
        """Return the way to a signature. Raises Refused."""
        if signature not in self.lanes:
            known = ", ".join(f'"{name}"' for name in sorted(self.lanes))
            raise Refused(
                Code.FAILED_PRECONDITION,
                f'Serving signature key "{signature}" not found. Version {self.number} of '
                f'"{self.name}" has {known}',
            )
        return self.lanes[signature]


class Roster:
    """The models of one base folder. Belongs to one event loop."""

    def __init__(
        self, base: Path, load: Load, *, keep: int, limits: Limits, threads: ThreadPoolExecutor
    ) -> None:
        """Load nothing yet. keep: how many versions of each model are served."""
        self._base = base
        self._load = load
        self._keep = keep
        self._limits = limits
        self._threads = threads
        self._models: dict[str, dict[int, Version]] = {}
        self.ready = False

    async def refresh(self) -> None:
        """Look at the folders and do what they ask for; returns when it is done."""
        found = await asyncio.to_thread(folders.scan, self._base)
        for name in sorted(found.keys() | self._models.keys()):
            await self._refresh(name, found.get(name))
        if not self.ready:
            self.ready = versions.ready([self._seen(name) for name in self._models])

    async def _refresh(self, name: str, found: Mapping[int, Path] | None) -> None:
        held = self._models.setdefault(name, {})
        seen = self._seen(name)
        changes = versions.plan(found, seen, keep=self._keep, now=time.monotonic())
        for number in changes.load:
            assert found is not None
            # What is being let go of has its own end, whatever takes its number.
            held[number] = Version(name, number, replace(seen.get(number, _NEW), state=State.START))
        for number in changes.load:
            await self._begin(held[number], (found or {})[number])
        for number in changes.unload:
            self._retire(held[number])
        for number in changes.forget:
            del held[number]
        if found is None and not held:
            del self._models[name]
        if changes.load:
            # The old ones go as soon as there is a new one, not at the next look.
            await self._refresh(name, found)

    def _seen(self, name: str) -> dict[int, Seen]:
        return {number: version.seen for number, version in self._models[name].items()}

    async def _begin(self, version: Version, folder: Path) -> None:
        version.seen = replace(version.seen, state=State.LOADING)
        began = time.monotonic()
        try:
            model = await asyncio.to_thread(self._load, folder)
        except Exception as error:
            # Models are programs of others: one that cannot be loaded must not end the others,
            # whatever it raises. What is no NotAModel is not foreseen, and told in full.
            _failed(version, error)
            return
        version.model = model
        version.lanes = {
            name: Lane(entry, self._threads, self._limits)
            for name, entry in model.signatures.items()
        }
        version.seen = Seen(State.AVAILABLE)
        _log.info(
            '"%s" %d is served, loaded in %.1f s',
            version.name,
            version.number,
            time.monotonic() - began,
        )

    def _retire(self, version: Version) -> None:
        version.seen = Seen(State.UNLOADING)
        if not version.in_flight:
            self._end(version)

    def _end(self, version: Version) -> None:
        """Let go of a version's memory."""
        version.model, version.lanes = None, {}
        _log.info('"%s" %d is no longer served', version.name, version.number)
        held = self._models.get(version.name, {})
        if held.get(version.number) is version:
            del held[version.number]

    @contextmanager
    def using(self, name: str, number: int | None) -> Iterator[Version]:
        """Give a version, by default the newest, and keep it while it is used. Raises Refused."""
        version = self._find(name, number)
        version.in_flight += 1
        try:
            yield version
        finally:
            version.in_flight -= 1
            if not version.in_flight and version.seen.state is State.UNLOADING:
                self._end(version)

    def _find(self, name: str, number: int | None) -> Version:
        held = self._models.get(name, {})
        available = [v for v, one in held.items() if one.seen.state is State.AVAILABLE]
        wanted = max(available, default=None) if number is None else number
        if wanted in available:
            return held[wanted]
        what = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        if name not in self._models:
            others = ", ".join(f'"{other}"' for other in sorted(self._models)) or "none"
            there = f"the models are: {others}"
        else:
            there = f"its versions are: {', '.join(map(str, sorted(available))) or 'none yet'}"
        raise Refused(Code.NOT_FOUND, f"Servable not found for request: {what}; {there}")

    def statuses(self, name: str, number: int | None) -> dict[int, Seen]:
        """Return the versions of a model, newest first, or the one asked for. Raises Refused."""
        seen = self._seen(name) if name in self._models else {}
        chosen = {v: seen[v] for v in sorted(seen, reverse=True) if number in (None, v)}
        if not chosen:
            # Says what there is.
            self._find(name, number)
        return chosen


_NEW = Seen(State.START)


def _failed(version: Version, error: Exception) -> None:
    failures = version.seen.failures + 1
    version.seen = Seen(State.END, str(error), failures, time.monotonic())
    if failures == 1:
        _log.warning(
            '"%s" %d is not served: %s',
            version.name,
            version.number,
            error,
            exc_info=not isinstance(error, NotAModel),
        )
