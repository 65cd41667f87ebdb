"""Which storage gateway serves which claim: starts one when it is needed, replaces one that was
lost, removes one that nobody has used for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from controller.errors import ClusterUnavailable, TaasError
from controller.gateway.connection import Connection, Gateway

_log = logging.getLogger(__name__)


class ClaimMissing(ClusterUnavailable):
    """There is no such claim, or no such namespace, or it is being deleted: what was on it is
    gone, or was never there."""


class GatewayPods(Protocol):
    """The pods in which gateways run, at most one for each claim of a namespace.

    Every method may raise ClusterUnavailable and may be cancelled at any moment.
    """

    async def ensure(self, namespace: str, claim: str) -> Gateway:
        """Make the gateway unless it is there, replace one that has ended or is outdated, and
        return it once its pod is ready, however long that takes: the pool has a deadline.
        Raises ClaimMissing, ClusterRefused."""
        ...

    async def trouble(self, namespace: str, claim: str) -> str:
        """Say why the gateway's pod is not ready, for people: "Unschedulable: 0/2 nodes ..."."""
        ...

    async def delete(self, namespace: str, claim: str) -> None:
        """Remove the gateway's pod, at once and without grace (it holds nothing that could be
        lost, and its node may be gone), and its token. Nothing happens if there is none."""
        ...

    async def existing(self) -> tuple[tuple[str, str], ...]:
        """Return namespace and claim of every gateway that there is, ready or not."""
        ...


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that the pool goes by.

    start_s: how long a caller waits for a gateway to start, an image pull included. idle_s: an
    unused gateway is removed after it. sweep_s: between two looks at which are unused. answer_s:
    how long a gateway whose pod is ready may take to answer. backoff_s: the first wait after a
    gateway did not answer; it doubles up to longest_backoff_s.
    """

    start_s: float = 30.0
    idle_s: float = 300.0
    sweep_s: float = 30.0
    answer_s: float = 5.0
    backoff_s: float = 0.2
    longest_backoff_s: float = 30.0


# What a start comes to; an error is kept as a value, since several callers or none may see it.
_Outcome = Connection | Exception
# Calls to one gateway at a time: bounds what its pod holds in memory. Uploads are not counted,
# they last as long as the client takes.
_MOST_CALLS = 32
_TROUBLE_S = 5.0


class _Start:
    """A start that is under way, shared by all who wait for it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        self.outcome: asyncio.Future[_Outcome] = loop.create_future()
        self.note = ""  # why it was not ready when it was last tried
        self.task: asyncio.Task[None] | None = None


class _Entry:
    """One claim of a namespace, and its gateway as far as the pool knows it."""

    def __init__(self, namespace: str, claim: str, now: float) -> None:
        self.namespace = namespace
        self.claim = claim
        self.connection: Connection | None = None
        self.start: _Start | None = None
        self.leases = 0
        self.idle_since = now
        self.calls = asyncio.Semaphore(_MOST_CALLS)
        # Held while the pod is made or removed, so that neither meets the other half-way.
        self.pod = asyncio.Lock()

    def __str__(self) -> str:
        return f"the storage gateway for claim {self.claim} in namespace {self.namespace}"


class Lease:
    """The use of a claim's gateway; while it lasts, the gateway is not taken for idle."""

    def __init__(self, pool: GatewayPool, entry: _Entry) -> None:
        self._pool = pool
        self._entry = entry
        self._released = False

    def __str__(self) -> str:
        return str(self._entry)

    @property
    def calls(self) -> asyncio.Semaphore:
        """Held for the length of a call that is not an upload."""
        return self._entry.calls

    async def connection(self) -> Connection:
        """Return the connection, waiting for the gateway to start if it must. Raises
        ClusterUnavailable with the pod's reason when it does not in time."""
        return await self._pool.connected(self._entry)

    async def lost(self, connection: Connection) -> None:
        """Say that a call failed as it does when the gateway is gone."""
        await self._pool.lost(self._entry, connection)

    def release(self) -> None:
        """End the use. A second call changes nothing."""
        if not self._released:
            self._released = True
            self._pool.released(self._entry)


class GatewayPool:
    """Hands out gateways. To be entered for as long as it is used; gateways outlive it, the next
    pool finds them."""

    def __init__(
        self,
        pods: GatewayPods,
        *,
        times: Times = Times(),  # it is frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pods = pods
        self._times = times
        self._clock = clock
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._group = asyncio.TaskGroup()
        self._sweeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> GatewayPool:
        await self._group.__aenter__()
        self._sweeping = self._group.create_task(self._sweep_for_ever())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for entry in self._entries.values():
            self._end_start(entry)
        # An error of the block is not one of the group's and leaves as it is.
        is_cancelled = isinstance(error, asyncio.CancelledError)
        seen = (kind, error, traceback) if is_cancelled else (None, None, None)
        try:
            await self._group.__aexit__(*seen)
        finally:
            for entry in self._entries.values():
                await self._disconnect(entry)

    @asynccontextmanager
    async def lease(self, namespace: str, claim: str) -> AsyncIterator[Lease]:
        """Use a claim's gateway for the length of the block."""
        lease = self.acquire(namespace, claim)
        try:
            yield lease
        finally:
            lease.release()

    def acquire(self, namespace: str, claim: str) -> Lease:
        """Begin to use a claim's gateway; whoever does must release it."""
        entry = self._entry(namespace, claim)
        entry.leases += 1
        return Lease(self, entry)

    async def sweep(self) -> None:
        """Remove the gateways that were idle for too long; those that cannot be removed now are
        tried again in the next sweep."""
        horizon = self._clock() - self._times.idle_s
        idle = [e for e in self._entries.values() if not e.leases and e.idle_since <= horizon]
        async with asyncio.TaskGroup() as group:
            for entry in idle:
                group.create_task(self._remove(entry))

    # --- For leases

    async def connected(self, entry: _Entry) -> Connection:
        """Return the entry's connection; see Lease.connection."""
        if entry.connection is not None:
            return entry.connection
        start = entry.start or self._begin(entry)
        try:
            async with asyncio.timeout_at(start.began + self._times.start_s):
                outcome = await asyncio.shield(start.outcome)
        except TimeoutError as error:
            why = start.note or await self._trouble(entry)
            raise ClusterUnavailable(
                f"{entry} is not ready after {self._times.start_s:g} s: {why}; look at it with "
                f"kubectl -n {entry.namespace} describe pvc,pod",
                retry_after_s=5.0,
            ) from error
        if isinstance(outcome, Connection):
            return outcome
        raise outcome

    async def lost(self, entry: _Entry, connection: Connection) -> None:
        """Forget a connection; see Lease.lost. Others may have done so already."""
        if entry.connection is connection:
            entry.connection = None
            _log.warning("%s at %s was lost", entry, connection.gateway.address)
            await connection.retire()

    def released(self, entry: _Entry) -> None:
        """Count a use less; see Lease.release."""
        entry.leases -= 1
        entry.idle_since = self._clock()

    # --- Starting

    def _entry(self, namespace: str, claim: str) -> _Entry:
        key = (namespace, claim)
        if key not in self._entries:
            self._entries[key] = _Entry(namespace, claim, self._clock())
        return self._entries[key]

    def _begin(self, entry: _Entry) -> _Start:
        start = entry.start = _Start()
        start.task = self._group.create_task(self._run(entry, start))
        return start

    async def _run(self, entry: _Entry, start: _Start) -> None:
        """Bring a start to its outcome. Callers stop to wait after a while; the start goes on
        until it is done or nobody has called for so long that the entry is swept."""
        outcome: _Outcome = ClusterUnavailable(f"{entry} is not started any more; try again")
        try:
            async with entry.pod:
                outcome = await self._connect(entry, start)
            entry.connection = outcome
        except Exception as error:
            outcome = error  # raised to whoever waits, see connected
        finally:
            if entry.start is start:
                entry.start = None
            start.outcome.set_result(outcome)

    async def _connect(self, entry: _Entry, start: _Start) -> Connection:
        """Return a connection to a gateway that answers; one that does not is replaced."""
        backoff_s = self._times.backoff_s
        while True:
            gateway = await self._pods.ensure(entry.namespace, entry.claim)
            connection = Connection(gateway)
            try:
                trouble = await connection.trouble(self._times.answer_s)
            except BaseException:
                await connection.retire()
                raise
            if not trouble:
                return connection
            await connection.retire()
            _log.warning("%s does not answer and is replaced: %s", entry, trouble)
            start.note = f"it does not answer at {trouble}"
            await self._pods.delete(entry.namespace, entry.claim)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, self._times.longest_backoff_s)

    async def _trouble(self, entry: _Entry) -> str:
        try:
            async with asyncio.timeout(_TROUBLE_S):
                return await self._pods.trouble(entry.namespace, entry.claim)
        except (TaasError, TimeoutError) as error:
            return f"why cannot be found out ({str(error) or 'no answer'})"

    # --- Removing

    async def _sweep_for_ever(self) -> None:
        adopted = False
        while True:
            adopted = adopted or await self._adopt()
            await asyncio.sleep(self._times.sweep_s)
            await self.sweep()

    async def _adopt(self) -> bool:
        """Take over the gateways that a former controller left, as idle from now on."""
        try:
            for namespace, claim in await self._pods.existing():
                self._entry(namespace, claim)
        except TaasError as error:
            _log.warning("cannot look for gateways yet: %s", error)
            return False
        return True

    async def _remove(self, entry: _Entry) -> None:
        """Remove an idle gateway, unless somebody asks for it before its pod is touched."""
        self._end_start(entry)
        async with entry.pod:
            if entry.leases:
                return
            await self._disconnect(entry)
            try:
                await self._pods.delete(entry.namespace, entry.claim)
            except TaasError as error:
                _log.warning("%s is idle and cannot be removed yet: %s", entry, error)
                return
        self._forget_unless_used(entry)

    def _forget_unless_used(self, entry: _Entry) -> None:
        if not entry.leases and entry.start is None:
            del self._entries[entry.namespace, entry.claim]

    def _end_start(self, entry: _Entry) -> None:
        """End a start under way; whoever calls from now on begins another."""
        start = entry.start
        if start is not None and start.task is not None:
            entry.start = None
            start.task.cancel()

    async def _disconnect(self, entry: _Entry) -> None:
        if entry.connection is not None:
            connection, entry.connection = entry.connection, None
            await connection.retire()
