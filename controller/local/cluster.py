"""Pods as processes: the Cluster of the local backend.

A pod is a session of processes led by the command of its manifest. It outlives the controller:
what is intended is on disk before it is done, and a controller that starts finds every pod again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.changes import Changes
from controller.errors import ClusterRefused, ClusterUnavailable, TaasError
from controller.local import leader, sweep
from controller.local.access import TOKEN_FILE, PodTokens, write_private
from controller.local.manifests import Container, container
from controller.local.nursery import Nursery, NurseryFailed
from controller.local.pods import Pod, PodTable
from controller.local.trees import remove_tree
from controller.model import Job, JobKey, PodPhase, PodSeen
from trainer.contract import ENV_POD_IP, ENV_POD_UID, ENV_SCRATCH, ENV_TOKEN_FILE

_log = logging.getLogger(__name__)

# A process that is born while one scan looks is seen by the next; two empty scans in a row say
# that nothing is left.
_EMPTY_SCANS = 2
_RETRY_S = 1.0


@dataclass(slots=True)
class _Entry:
    """A pod that this cluster knows, and what wakes the task that follows it."""

    pod: Pod
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class ProcessCluster:
    """The Cluster over processes of this machine; watches them while its `async with` block runs.

    Entering adopts the pods that a former controller left and ends what belongs to none; leaving
    stops the watching and lets the pods live. The owner of the state folder (StateLock) is the
    only one to use it.
    """

    def __init__(self, home: Path, nursery: Nursery | None = None) -> None:
        """`nursery` forks the agents, if there is one; it is closed in the end."""
        self._home = home
        self._nursery = nursery
        self._folder = home / "pods"
        self._table = PodTable(home / "pods.db")
        self._changes = Changes()
        self._entries: dict[str, _Entry] = {}  # by pod uid
        self._tasks = asyncio.TaskGroup()
        self._following: set[asyncio.Task[None]] = set()
        self._launching: set[asyncio.Task[TaasError | None]] = set()
        self._stopping = False

    async def __aenter__(self) -> ProcessCluster:
        await self._table.open()
        await self._tasks.__aenter__()
        try:
            self._tokens = await asyncio.to_thread(PodTokens.of, self._home)
            await self._recover()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        # A launch that has begun is finished, so that the pod's process is on record.
        if self._launching:
            await asyncio.wait(self._launching)
        await self._close()

    async def _close(self) -> None:
        for task in self._following:
            task.cancel()
        try:
            # Without the error of the block, which the group would wrap.
            await self._tasks.__aexit__(None, None, None)
        finally:
            if self._nursery:
                await self._nursery.aclose()
            await self._table.aclose()
            self._changes.close()

    # --- The port

    async def pods(self, job: Job) -> tuple[PodSeen, ...]:
        """Return the job's pods by index, lost ones included until they are deleted."""
        seen = [e.pod.seen() for e in self._entries.values() if e.pod.job_uid == job.uid]
        return tuple(sorted(seen, key=lambda pod: (pod.index, pod.name)))

    async def apply(self, job: Job, manifest: Mapping[str, Any]) -> None:
        """Start the pod unless one of its name exists. Raises ClusterRefused."""
        if self._stopping:
            raise ClusterUnavailable("the local cluster is stopping; no pod is started any more")
        wanted = container(manifest)
        if self._entry(job, wanted.pod) is not None:
            return
        uid = str(uuid.uuid4())
        pod = Pod(uid, job.key, job.uid, wanted.index, wanted.pod, datetime.now(UTC))
        self._entries[uid] = _Entry(pod)
        task = self._tasks.create_task(self._launch(pod, wanted))
        self._launching.add(task)
        task.add_done_callback(self._launching.discard)
        # A caller that goes away does not tear a launch apart.
        refusal = await asyncio.shield(task)
        if refusal is not None:
            raise refusal

    async def delete(self, job: Job, name: str, grace_s: int) -> None:
        """Begin to end a pod: SIGTERM to its leader, SIGKILL to all of it after the grace.
        Returns once that is on record; nothing happens if it is gone or being deleted."""
        entry = self._entry(job, name)
        if entry is not None and entry.pod.deadline is None:
            await self._begin_deletion(entry, grace_s)

    def changes(self) -> AsyncIterator[JobKey]:
        """Yield the key of every job one of whose pods changes from now on."""
        return self._changes.reader()

    async def stop_all(self, grace_s: int) -> None:
        """Delete every pod with that grace, or what is left of its own, and wait until all are
        gone. No pod is started after this."""
        self._stopping = True
        if self._launching:
            await asyncio.wait(self._launching)
        entries = list(self._entries.values())
        for entry in entries:
            await self._begin_deletion(entry, grace_s)
        for entry in entries:
            await entry.gone.wait()

    # --- The life of a pod

    async def _launch(self, pod: Pod, wanted: Container) -> TaasError | None:
        """Start a pod's leader, or return why not. What is on disk tells a later controller how
        far this came."""
        folder = self._folder / pod.uid
        own = {
            **wanted.env,
            ENV_POD_UID: pod.uid,
            ENV_POD_IP: "127.0.0.1",
            ENV_SCRATCH: str(folder / leader.SCRATCH),
            ENV_TOKEN_FILE: str(folder / TOKEN_FILE),
        }
        env = leader.environment(own, os.environ)
        try:
            await self._table.add(pod)
        except ClusterUnavailable as error:
            self._drop(pod.uid)
            return error
        try:
            pid, pidfd = await self._start(pod.uid, wanted.command, env, folder)
        except (OSError, ValueError) as error:
            await self._forget(pod.uid)
            return ClusterRefused(
                f"pod {pod.name}: {wanted.command[0]!r} cannot be started: {error}"
            )
        self._adopt(pod, pid, pidfd)
        try:
            await self._table.set_pid(pod.uid, pid)
        except ClusterUnavailable as error:
            # The pod runs and is followed; a later controller finds its process by the lock.
            return error
        return None

    async def _start(
        self, uid: str, command: Sequence[str], env: Mapping[str, str], folder: Path
    ) -> tuple[int, int]:
        """Give a pod its token and start its leader."""
        await asyncio.to_thread(self._give_token, uid, folder)
        if self._nursery and self._nursery.forks(command):
            try:
                return await self._nursery.start(env, folder)
            except NurseryFailed as error:
                _log.warning("%s; the agent starts by itself", error)
        return await asyncio.to_thread(leader.start, command, env, folder)

    def _give_token(self, uid: str, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(folder / TOKEN_FILE, self._tokens.token(uid).encode())

    def _adopt(self, pod: Pod, pid: int, pidfd: int) -> None:
        self._set(pod.uid, phase=PodPhase.RUNNING, pid=pid)
        self._follow(self._watch(pod.uid, pidfd))

    def _follow(self, life: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(life)
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _watch(self, uid: str, pidfd: int) -> None:
        """Follow a pod from its leader's life to its removal."""
        folder = self._folder / uid
        try:
            await self._until_dead(uid, pidfd)
            await self._end_processes(uid)
            code = leader.exit_code(pidfd)
            if code is None and self._nursery:
                code = await self._nursery.exit_code(self._entries[uid].pod.pid)
        finally:
            os.close(pidfd)
        await self._bury(uid, leader.end_of(code, folder))

    async def _bury(self, uid: str, end: leader.End) -> None:
        """Report the end of a pod of which nothing runs, and remove it when that is asked."""
        # The file is a help for the next controller; without it the end is told as unknown.
        with suppress(ClusterUnavailable):
            await self._table.set_end(uid, end.phase, reason=end.reason, message=end.message)
        self._set(uid, phase=end.phase, reason=end.reason, message=end.message)
        await self._until_deleted(uid)

    async def _until_deleted(self, uid: str) -> None:
        entry = self._entries[uid]
        while entry.pod.deadline is None:
            entry.stirred.clear()
            await entry.stirred.wait()
        await self._forget(uid)

    async def _until_dead(self, uid: str, pidfd: int) -> None:
        """Wait for the death of a leader, and bring it about when deletion is asked for."""
        entry = self._entries[uid]
        with leader.Death(pidfd, entry.stirred) as death:
            warned = False
            while not death.seen:
                entry.stirred.clear()
                left_s = None
                if entry.pod.deadline is not None:
                    left_s = entry.pod.deadline - time.time()
                    if left_s <= 0:
                        await self._end_processes(uid)
                        left_s = None
                    elif not warned:
                        warned = True
                        with suppress(ProcessLookupError):
                            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await entry.stirred.wait()

    async def _end_processes(self, uid: str) -> None:
        """Kill until nothing of a pod is left. A machine out of descriptors is waited for."""
        empty = 0
        while empty < _EMPTY_SCANS:
            try:
                found = await asyncio.to_thread(sweep.end_round, uid)
            except OSError as error:
                _log.warning("pod %s: looking for its processes: %s; again soon", uid, error)
                found = 1
                await asyncio.sleep(_RETRY_S)
            empty = 0 if found else empty + 1

    async def _begin_deletion(self, entry: _Entry, grace_s: int) -> None:
        """Put a deletion on record, then let the task that follows the pod see to it."""
        before = entry.pod.deadline
        deadline = time.time() + max(0, grace_s)
        if before is not None:
            deadline = min(before, deadline)
        self._set(entry.pod.uid, deadline=deadline)
        try:
            await self._table.set_deadline(entry.pod.uid, deadline)
        except ClusterUnavailable:
            self._set(entry.pod.uid, deadline=before)
            raise
        entry.stirred.set()

    async def _forget(self, uid: str) -> None:
        """Remove what is on disk of a pod, its row last, so that a crash in between is repeated."""
        if await self._cleared(uid):
            try:
                await self._table.remove(uid)
            except ClusterUnavailable as error:
                _log.warning("pod %s: %s; the next controller removes its row", uid, error)
        self._drop(uid)

    async def _cleared(self, uid: str) -> bool:
        """Remove the folder of a pod, and say whether it is gone. Whatever a program did to its
        files, it ends no more than their removal: all other pods are followed beside this."""
        try:
            await asyncio.to_thread(remove_tree, self._folder / uid)
        except Exception as error:
            expected = isinstance(error, OSError)
            _log.warning(
                "pod %s: its files stay: %s; the next controller tries again",
                uid,
                error,
                exc_info=not expected,
            )
            return False
        return True

    # --- After a start

    async def _recover(self) -> None:
        """Adopt the pods that live, end what is left of those that do not."""
        pods = await self._table.all()
        for pod in pods:
            self._entries[pod.uid] = _Entry(pod)
        folders = await asyncio.to_thread(_folders, self._folder)
        running = await asyncio.to_thread(sweep.pods_below, self._folder)
        for uid in (folders | running) - self._entries.keys():
            _log.warning("pod %s is on no record; ending what is left of it", uid)
            await self._end_processes(uid)
            await self._cleared(uid)
        living = [pod for pod in pods if not pod.ended and leader.lives(self._folder / pod.uid)]
        locks = {leader.lock_path(self._folder / pod.uid): pod.uid for pod in living}
        found = await asyncio.to_thread(sweep.holders, frozenset(locks))
        leaders = {locks[path]: pid for path, pid in found.items()}
        for pod in pods:
            self._resume(pod, leaders.get(pod.uid))

    def _resume(self, pod: Pod, pid: int | None) -> None:
        """Go on following a pod that a former controller started."""
        if pod.ended:
            self._follow(self._until_deleted(pod.uid))
            return
        # A lock held by another process than the recorded leader is held by a fork of a dead one.
        if pid is not None and pod.pid in (0, pid):
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                pass
            else:
                _log.info("pod %s of %s lives on as process %d", pod.name, pod.job, pid)
                self._adopt(pod, pid, pidfd)
                return
        self._follow(self._end_lost(pod.uid))

    async def _end_lost(self, uid: str) -> None:
        """End what is left of a pod whose leader died while no controller looked."""
        await self._end_processes(uid)
        await self._bury(uid, leader.end_of(None, self._folder / uid))

    # --- Bookkeeping

    def _entry(self, job: Job, name: str) -> _Entry | None:
        for entry in self._entries.values():
            if entry.pod.job_uid == job.uid and entry.pod.name == name:
                return entry
        return None

    def _drop(self, uid: str) -> None:
        entry = self._entries.pop(uid)
        entry.gone.set()
        self._changes.tell(entry.pod.job)

    def _set(self, uid: str, **change: Any) -> None:
        entry = self._entries[uid]
        entry.pod = replace(entry.pod, **change)
        self._changes.tell(entry.pod.job)


def _folders(folder: Path) -> frozenset[str]:
    """Return the uids of the pods that have a folder."""
    try:
        return frozenset(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return frozenset()
