"""One controller of several leads: who holds the Lease. A clean stop hands it on at once.

The leader's pod carries a label that the Service selects, so that calls reach the leader only.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.errors import ClusterUnavailable, Conflict, TaasError
from controller.kubernetes import pod_documents
from controller.kubernetes.background import Background
from controller.kubernetes.client import MERGE, Api, Document
from controller.kubernetes.replies import Missing, Taken
from controller.kubernetes.watch import Collection, Item

_log = logging.getLogger(__name__)

LABEL_LEADER = "taas.dev/leader"
_SELECTOR = {"labelSelector": f"{LABEL_LEADER}=true"}


class LeadershipLost(ClusterUnavailable):
    """The Lease could not be renewed in time: another may lead by now, so this process ends."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. The Lease is good for `lease_s` after a renewal; a leader gives up when it has
    not renewed it for `renew_deadline_s`, so that it is silent before another begins; tries are
    `retry_s` apart."""

    lease_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who wants to lead: a pod that carries the label while it does, and the Lease's name."""

    namespace: str
    pod: str
    lease: str = "taas-controller"


class Leadership:
    """What a leader has. It is lost by an error in the block that `leading` opened."""

    def __init__(self, api: Api, me: Candidate, timing: Timing) -> None:
        self._api = api
        self._me = me
        self._timing = timing
        self._seen: Item[Document] | None = None
        self._seen_at = 0.0
        self._stirred = asyncio.Event()
        self._renewed_at = 0.0
        self._exit: asyncio.TimerHandle | None = None
        self._url = f"/apis/coordination.k8s.io/v1/namespaces/{me.namespace}/leases"
        self._leases: Collection[Document] = Collection(
            api,
            self._url,
            read=lambda document: document,
            changed=self._changed,
            selectors={"fieldSelector": f"metadata.name={me.lease}"},
        )

    async def announce(self) -> None:
        """Label the own pod, and no other, so that the Service leads here. To be called once the
        service answers."""
        pods = pod_documents.path(self._me.namespace)
        found = await self._api.call("GET", pods, query=_SELECTOR)
        for document in found.get("items", ()):
            name = document["metadata"]["name"]
            if name != self._me.pod:
                # Of a leader that died without a word.
                with suppress(Missing):
                    await self._label(name, None)
        await self._label(self._me.pod, "true")

    async def follow(self) -> None:
        """Keep the copy of the Lease up to date until cancelled."""
        await self._leases.run()

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        await self._unlabel()
        await self._leases.synced()
        while not await self._try_to_lead():
            await self._until_free()
        _log.info("%s leads", self._me.pod)

    async def hold(self) -> None:
        """Renew the Lease until cancelled. Raises LeadershipLost."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._timing.retry_s)
            deadline = self._renewed_at + self._timing.renew_deadline_s
            # What somebody else has taken is not taken back.
            renewed = False
            if self._holder in (None, self._me.pod):
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        renewed = await self._write()
            if not renewed and (loop.time() >= deadline or self._holder != self._me.pod):
                raise self._lost()

    def ended(self) -> None:
        """Note that nothing acts as a leader any more."""
        if self._exit is not None:
            self._exit.cancel()

    @property
    def _holder(self) -> str | None:
        """Who has the Lease: "" for nobody, None if there is no Lease."""
        if self._seen is None:
            return None
        return str((self._seen.value.get("spec") or {}).get("holderIdentity") or "")

    def _lost(self) -> LeadershipLost:
        error = LeadershipLost(
            f"{self._me.pod} leads no more: the Lease {self._me.lease} is held by "
            f"{self._holder or 'nobody'} and was not renewed in time; this process ends"
        )
        _log.error("%s", error)
        left_s = self._timing.lease_s - self._timing.renew_deadline_s
        self._exit = asyncio.get_running_loop().call_later(left_s * 0.8, os._exit, 1)
        return error

    async def release(self) -> None:
        """Hand the Lease on, as far as the API server answers within the time it is good for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timing.retry_s * 2):
                await self._unlabel()
                await self._write(release=True)

    # --- The Lease

    async def _try_to_lead(self) -> bool:
        return self._wait_s() <= 0 and await self._write()

    def _wait_s(self) -> float:
        """Return the seconds until the Lease is free, by this machine's clock alone: it is when
        it has not changed for as long as it is good for."""
        if self._seen is None or self._holder in ("", self._me.pod):
            return 0.0
        spec = self._seen.value.get("spec") or {}
        good_for_s = spec.get("leaseDurationSeconds") or self._timing.lease_s
        return self._seen_at + good_for_s - asyncio.get_running_loop().time()

    async def _until_free(self) -> None:
        """Wait for a change of the Lease, its end, or the time of the next try."""
        self._stirred.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(self._timing.retry_s, self._wait_s())):
                await self._stirred.wait()

    async def _write(self, *, release: bool = False) -> bool:
        """Take, renew or release the Lease, and say whether that was done."""
        began = asyncio.get_running_loop().time()
        document = self._lease(release=release)
        try:
            if self._seen is None:
                written = await self._api.call("POST", self._url, body=document)
            else:
                url = f"{self._url}/{self._me.lease}"
                written = await self._api.call("PUT", url, body=document)
        except Missing:
            if self._seen is not None:
                self._leases.drop(self._me.namespace, self._me.lease, self._seen.uid)
            return False
        except (Conflict, Taken):
            await self._look()
            return False
        except TaasError as error:
            _log.warning("Lease %s: %s", self._me.lease, error)
            return False
        self._leases.put(written)
        # As of before the call: it may have been written at any moment since.
        self._renewed_at = began
        return True

    async def _look(self) -> None:
        """Read the Lease past the copy, so that the next try does not meet the same conflict."""
        try:
            self._leases.put(await self._api.call("GET", f"{self._url}/{self._me.lease}"))
        except TaasError as error:
            _log.info("Lease %s: %s", self._me.lease, error)

    def _lease(self, *, release: bool) -> Document:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        metadata: Document = {"namespace": self._me.namespace, "name": self._me.lease}
        before: Document = {}
        if self._seen is not None:
            metadata = self._seen.value["metadata"]
            before = self._seen.value.get("spec") or {}
        spec: dict[str, Any] = {
            **before,
            "holderIdentity": "" if release else self._me.pod,
            # Whole seconds, at least one, are all that a Lease can say.
            "leaseDurationSeconds": 1 if release else max(1, round(self._timing.lease_s)),
            "renewTime": now,
        }
        if before.get("holderIdentity") != spec["holderIdentity"] and not release:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = before.get("leaseTransitions", 0) + bool(before)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }

    def _changed(self, before: Item[Document] | None, after: Item[Document] | None) -> None:
        self._seen = after
        self._seen_at = asyncio.get_running_loop().time()
        self._stirred.set()

    # --- The label

    async def _unlabel(self) -> None:
        """Take the label off the own pod; a process that died may have left it there."""
        try:
            await self._label(self._me.pod, None)
        except TaasError as error:
            _log.warning("pod %s: the label %s stays: %s", self._me.pod, LABEL_LEADER, error)

    async def _label(self, pod: str, value: str | None) -> None:
        change = {"metadata": {"labels": {LABEL_LEADER: value}}}
        url = pod_documents.path(self._me.namespace, pod)
        await self._api.call("PATCH", url, body=change, content_type=MERGE)


@asynccontextmanager
async def leading(
    api: Api, me: Candidate, timing: Timing | None = None
) -> AsyncIterator[Leadership]:
    """Wait until this process leads, then run the block; leaving it hands the Lease on.

    When the Lease is lost the block is cancelled and LeadershipLost raised. A block that has not
    ended when another may lead takes the process with it.
    """
    timing = timing or Timing()
    leadership = Leadership(api, me, timing)
    following, holding = Background(), Background()
    await following.open()
    try:
        following.start(leadership.follow())
        await leadership.acquire()
        await holding.open()
        try:
            holding.start(leadership.hold())
            yield leadership
        finally:
            try:
                await holding.aclose()
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
            else:
                await leadership.release()
    finally:
        await following.aclose()
        leadership.ended()
