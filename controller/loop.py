"""The reconcile loop: brings each job's world in line with the plan, one pass at a time."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from controller import events
from controller.backoff import doubled
from controller.errors import ClusterRefused, Conflict, JobNotFound, TaasError
from controller.live import Live
from controller.metrics import Metrics
from controller.model import Job, JobKey, Order, Seen
from controller.plan import Plan, plan
from controller.ports import Cluster, JobStore, Storage
from controller.refusals import Refusals
from controller.render import PodSettings, assignment, render
from controller.rendezvous import rendezvous
from controller.wakefulness import Wake
from controller.workers import Workers

_log = logging.getLogger(__name__)

_RECONCILERS = 32
# Jobs whose files are removed at a time, of one claim: it may be slow, and others are waiting.
_FORGOTTEN_AT_ONCE = 4
_FIRST_BACKOFF_S = 0.2
_LONGEST_BACKOFF_S = 30.0


class WorkQueue:
    """Keys to look at, each at its time; a key is handed to one taker at a time."""

    def __init__(self) -> None:
        self._due: dict[JobKey, float] = {}
        self._heap: list[tuple[float, JobKey]] = []
        self._taken: dict[JobKey, float] = {}  # and how late each was
        self._waiting: dict[JobKey, float] = {}
        self._changed = asyncio.Event()

    def add(self, key: JobKey, after_s: float = 0.0) -> None:
        """Ask for a look at the key, in so many seconds at the latest."""
        at = asyncio.get_running_loop().time() + after_s
        if key in self._taken:
            self._waiting[key] = min(at, self._waiting.get(key, at))
        elif at < self._due.get(key, float("inf")):
            self._due[key] = at
            heapq.heappush(self._heap, (at, key))
            self._changed.set()

    async def take(self) -> JobKey:
        """Wait for the next key that is due, and take it until done is called."""
        while True:
            self._changed.clear()
            wait_s = self._next_wait()
            if wait_s is not None and wait_s <= 0:
                _, key = heapq.heappop(self._heap)
                del self._due[key]
                self._taken[key] = -wait_s
                return key
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def late_s(self, key: JobKey) -> float:
        """Return how many seconds after its time a key that is taken was handed out."""
        return self._taken[key]

    def done(self, key: JobKey) -> None:
        """Give a key back; what was asked meanwhile counts now."""
        self._taken.pop(key, None)
        at = self._waiting.pop(key, None)
        if at is not None:
            self.add(key, max(0.0, at - asyncio.get_running_loop().time()))

    def _next_wait(self) -> float | None:
        """Return seconds to the first due key, dropping entries that were moved forward."""
        while self._heap:
            at, key = self._heap[0]
            if self._due.get(key) == at:
                return at - asyncio.get_running_loop().time()
            heapq.heappop(self._heap)
        return None


@dataclass(frozen=True, slots=True)
class World:
    """Everything the loop acts on."""

    store: JobStore
    cluster: Cluster
    storage: Storage
    workers: Workers
    live: Live
    refusals: Refusals
    metrics: Metrics
    pods: Callable[[], PodSettings]
    clock: Callable[[], datetime]
    wake: Wake


@dataclass(frozen=True, slots=True)
class Pass:
    """What follows a pass: when the next is due at the latest; the job, if nothing but its files
    and its row are left and both are to go."""

    wake_at: datetime | None = None
    ended: Job | None = None


class Loop:
    """Runs the passes. `run` returns only when cancelled."""

    def __init__(self, world: World, queue: WorkQueue) -> None:
        self._world = world
        self._queue = queue
        self._turn = asyncio.Lock()
        self._failures: dict[JobKey, int] = {}
        self._forgetting: WeakValueDictionary[tuple[str, str], asyncio.Semaphore]
        self._forgetting = WeakValueDictionary()  # by namespace and claim

    async def run(self) -> None:
        """Look at every job once, then at whatever changes."""
        world = self._world
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(world.store.changes()))
            group.create_task(self._follow(world.cluster.changes()))
            for key in await world.store.keys():
                self._queue.add(key)
            for _ in range(_RECONCILERS):
                group.create_task(self._reconciler(group))

    async def _follow(self, changes: AsyncIterator[JobKey]) -> None:
        async for key in changes:
            self._queue.add(key)

    async def _reconciler(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._turn:
                # A pass that writes nothing waits for nothing: a thousand of them, as after a
                # start, would keep everybody else waiting. So one begins in a turn of the event
                # loop, however many wait for the store.
                await asyncio.sleep(0)
                key = await self._queue.take()
            began = loop.time()
            ended = await self._guarded(key, self._pass(key))
            self._world.metrics.passed(self._queue.late_s(key), loop.time() - began)
            if ended is None:
                self._queue.done(key)
            else:
                # Aside, for the storage of a tenant may take long to answer. The key stays taken.
                group.create_task(self._forget(ended))

    async def _pass(self, key: JobKey) -> Job | None:
        """Do one pass and return the job if it is to be forgotten."""
        result = await reconcile(self._world, key)
        if result.ended is None:
            self._failures.pop(key, None)
        if result.wake_at is not None:
            wait_s = (result.wake_at - self._world.clock()).total_seconds()
            self._queue.add(key, max(0.0, wait_s))
        return result.ended

    async def _forget(self, job: Job) -> None:
        """Forget a job and give its key back."""
        claim = (job.key.namespace, job.spec.storage_claim)
        slots = self._forgetting.get(claim)
        if slots is None:
            slots = self._forgetting[claim] = asyncio.Semaphore(_FORGOTTEN_AT_ONCE)
        async with slots:
            await self._guarded(job.key, forget(self._world, job))
        self._queue.done(job.key)

    async def _guarded(self, key: JobKey, work: Awaitable[Job | None]) -> Job | None:
        """Do something for a job; when it fails a pass comes again later, and other jobs go on."""
        try:
            return await work
        except Conflict:
            self._queue.add(key)
        except Exception as error:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            delay = doubled(_FIRST_BACKOFF_S, failures, longest_s=_LONGEST_BACKOFF_S)
            expected = isinstance(error, TaasError)
            _log.warning("%s: %s; again in %.1f s", key, error, delay, exc_info=not expected)
            self._queue.add(key, delay)
        return None


async def reconcile(world: World, key: JobKey) -> Pass:
    """Do one pass for a job.

    The status is stored before anything is touched: a crash in the middle is finished by the
    next pass instead of being forgotten.
    """
    try:
        job = await world.store.get(key)
    except JobNotFound:
        world.metrics.forgot(key)
        return Pass()
    pods = await world.cluster.pods(job)
    world.workers.believe_only(job.uid, {pod.uid for pod in pods})
    awake = world.wake.look()
    now = awake.now
    refused = world.refusals.of(job.uid)
    seen = Seen(pods, world.workers.members(job.uid), awake.since, refused)
    decision = rendezvous(job, seen, now)
    planned = plan(replace(job, status=decision.status), pods, now, refused=refused)
    before = job.status
    job = await _store_status(world, job, planned, now)
    world.metrics.looked(before, job)
    await _act(world, job, planned, decision.orders)
    if planned.forget:
        return Pass(ended=job)
    if job.status.phase.final and not pods:
        world.workers.forget(job.uid)
        world.refusals.forget(job.uid)
    if world.refusals.of(job.uid) != refused:
        return Pass(now)  # the next pass stores what was said
    wakes = [at for at in (decision.wake_at, planned.wake_at) if at is not None]
    # A wake-up at this very moment would spin; the world needs a moment to change.
    return Pass(max(min(wakes), now + timedelta(milliseconds=50)) if wakes else None)


async def forget(world: World, job: Job) -> None:
    """Remove what is left of a job, its row last, so that a crash in between is repeated."""
    await world.storage.delete_job(job)
    await world.store.remove(job)
    world.workers.forget(job.uid)
    world.refusals.forget(job.uid)
    world.metrics.forgot(job.key)
    world.live.wake(job.uid)


async def _store_status(world: World, job: Job, planned: Plan, now: datetime) -> Job:
    status, entries = events.numbered(job.status, planned.status, now)
    if status == job.status:
        return job
    job = await world.store.put_status(job, status, entries)
    for entry in entries:
        _log.info("%s: %s", job.key, events.sentence(entry.change))
    world.live.wake(job.uid)
    return job


async def _act(world: World, job: Job, planned: Plan, orders: tuple[Order, ...]) -> None:
    for name in planned.delete:
        grace_s = 0 if name in planned.kill else job.spec.grace_s
        await world.cluster.delete(job, name, grace_s)
    for index in planned.create:
        try:
            await world.cluster.apply(job, render(job, index, world.pods()))
        except ClusterRefused as error:
            world.refusals.refused(job.uid, index, str(error), world.clock())
            _log.warning("%s: worker %d has no pod: %s", job.key, index, error)
        else:
            world.refusals.created(job.uid, index)
    if orders:
        world.workers.send(job, orders, assignment(job, job.status.generation).to_json())
