"""Removes the source archives that no job uses any more, namespace by namespace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.errors import TaasError
from controller.ports import JobStore, ListFilter, Storage

_log = logging.getLogger(__name__)

_INTERVAL_S = 600.0
# The storage keeps what was touched within the hour, so only a collection later than that after
# the last change of what is in use finds all there is to remove.
_SETTLED_AFTER = timedelta(hours=1)
# What was uploaded for a job that was never created changes nothing that is in use.
_AT_LEAST_EVERY = timedelta(days=1)
_PAGE = 500
# Claims that are collected at a time: each may have to wait for its storage to be reachable.
_AT_ONCE = 4

Claim = tuple[str, str]  # namespace and claim


@dataclass(frozen=True, slots=True)
class Collected:
    """What is known of a claim: the digests in use, since when just these, and when it was last
    collected, None if it was not."""

    used: frozenset[str]
    since: datetime
    last: datetime | None = None

    def due(self, now: datetime) -> bool:
        """Say whether to collect now. A claim at rest is left alone: to reach it may mean to
        start a pod."""
        if self.last is None or now - self.last >= _AT_LEAST_EVERY:
            return True
        settled = self.since + _SETTLED_AFTER
        return self.last < settled <= now

    def over(self) -> bool:
        """Say whether nothing is in use and all was removed that could be."""
        return not self.used and self.last is not None and self.last >= self.since + _SETTLED_AFTER


class Collector:
    """Remembers what each claim uses, and collects where something may be left over.

    A claim without jobs is collected as long as this process remembers that it had some; after
    a restart, when it next has one.
    """

    def __init__(self, store: JobStore, storage: Storage) -> None:
        self._store = store
        self._storage = storage
        self._known: dict[Claim, Collected] = {}

    async def round(self, now: datetime) -> None:
        """Look at all jobs and collect where it is due. Raises TaasError when the jobs cannot be
        listed; a claim that cannot be collected is tried again in the next round."""
        used = await self._in_use()
        for claim in used.keys() | self._known.keys():
            digests = frozenset(used.get(claim, ()))
            known = self._known.get(claim)
            if known is None:
                self._known[claim] = Collected(digests, now)
            elif known.used != digests:
                self._known[claim] = replace(known, used=digests, since=now)
        slots = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for claim, known in self._known.items():
                if known.due(now):
                    group.create_task(self._collect(claim, known, now, slots))
        self._known = {claim: known for claim, known in self._known.items() if not known.over()}

    async def _in_use(self) -> dict[Claim, set[str]]:
        """Return the digests that existing jobs use. A job that is created meanwhile is safe: its
        source was asked for a moment ago."""
        used: dict[Claim, set[str]] = {}
        token = ""
        while True:
            page = await self._store.list(ListFilter(), _PAGE, token)
            for job in page.jobs:
                digests = used.setdefault((job.key.namespace, job.spec.storage_claim), set())
                if job.spec.source is not None:
                    digests.add(job.spec.source.digest)
            token = page.next_token
            if not token:
                return used

    async def _collect(
        self, claim: Claim, known: Collected, now: datetime, slots: asyncio.Semaphore
    ) -> None:
        async with slots:
            try:
                await self._storage.collect_sources(*claim, known.used)
            except Exception as error:
                # A claim that fails in whatever way ends no round, and not the service with it.
                expected = isinstance(error, TaasError)
                what = "cannot collect the sources of %s/%s yet: %s"
                _log.warning(what, *claim, error, exc_info=not expected)
                return
        self._known[claim] = replace(known, last=now)


async def collect(
    store: JobStore,
    storage: Storage,
    clock: Callable[[], datetime],
    interval_s: float = _INTERVAL_S,
) -> None:
    """Collect now and after every interval, until cancelled."""
    collector = Collector(store, storage)
    while True:
        try:
            await collector.round(clock())
        except TaasError as error:
            _log.warning("cannot list the jobs whose sources are in use: %s", error)
        await asyncio.sleep(interval_s)
