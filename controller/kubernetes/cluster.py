"""Workers as Kubernetes pods: the Cluster of the Kubernetes backend.

Pods are created as they are, never changed; their names are those of their workers, so that
creating twice is creating once. What was just created or deleted is seen at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from controller.changes import Changes
from controller.errors import ClusterRefused, ClusterUnavailable, Conflict, TaasError
from controller.kubernetes import pod_documents
from controller.kubernetes.background import Background
from controller.kubernetes.client import Api, Document
from controller.kubernetes.pod_documents import Pod
from controller.kubernetes.recorder import Note, Recorder
from controller.kubernetes.replies import Missing, Taken
from controller.kubernetes.watch import Collection, Item
from controller.model import Job, JobKey, PodSeen
from controller.render import (
    LABEL_JOB,
    LABEL_JOB_UID,
    LABEL_MANAGED_BY,
    LABEL_WORKER,
    MANAGED_BY,
)
from controller.resource import API_VERSION, KIND

_log = logging.getLogger(__name__)

_SELECTORS = {"labelSelector": f"{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_JOB_UID}"}
# A pod whose grace is over by so much will not be ended by its node any more: the node is gone.
_OVERDUE_S = 30.0
_RETRY_S = 5.0


class KubernetesCluster:
    """The Cluster over pods of all namespaces; watches them while its `async with` block runs.
    Entering waits for the API server for as long as that takes; leaving lets the pods live.

    A pod that its node has not ended `overdue_s` seconds after its grace is forced away.
    """

    def __init__(
        self, api: Api, recorder: Recorder | None = None, *, overdue_s: float = _OVERDUE_S
    ) -> None:
        self._api = api
        self._overdue_s = overdue_s
        self._recorder = recorder
        self._changes = Changes()
        self._background = Background()
        self._of_job: dict[str, dict[str, Item[Pod | None]]] = {}  # by job uid and pod uid
        self._ending: dict[str, tuple[float, Item[Pod | None]]] = {}  # when overdue, by pod uid
        self._stirred = asyncio.Event()
        self._pods: Collection[Pod | None] = Collection(
            api,
            "/api/v1/pods",
            read=pod_documents.read,
            changed=self._changed,
            selectors=_SELECTORS,
        )

    async def __aenter__(self) -> KubernetesCluster:
        await self._pods.open(self._background)
        self._background.start(self._end_overdue())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._background.aclose()
        self._changes.close()

    async def pods(self, job: Job) -> tuple[PodSeen, ...]:
        """Return the job's pods by index, lost ones included until they are deleted."""
        found = [item.value for item in self._of_job.get(job.uid, {}).values()]
        # Anybody who may make pods may label them with the uid of a job of another namespace.
        seen = [pod.seen for pod in found if pod is not None and pod.job == job.key]
        return tuple(sorted(seen, key=lambda pod: (pod.index, pod.name)))

    async def apply(self, job: Job, manifest: Mapping[str, Any]) -> None:
        """Create the pod unless one of its name exists. Raises ClusterRefused; while a pod of
        another job has the name, ClusterUnavailable."""
        document = owned(job, manifest)
        namespace, name = job.key.namespace, document["metadata"]["name"]
        if self._item(job, name) is not None:
            return
        try:
            created = await self._api.call("POST", pod_documents.path(namespace), body=document)
        except Taken:
            await self._take_over(job, name)
        except Missing as error:
            raise ClusterUnavailable(f"pod {name}: {error}") from error
        except ClusterRefused as error:
            if self._recorder is not None:
                self._recorder.tell(job, Note(True, "FailedCreate", f"pod {name}: {error}"))
            raise ClusterRefused(f"pod {name}: {error}") from error
        else:
            self._pods.put(created)

    async def delete(self, job: Job, name: str, grace_s: int) -> None:
        """Begin to end a pod: SIGTERM to its agent, SIGKILL to all of it after the grace; with
        none its object goes at once. Nothing happens if it is gone or being deleted."""
        item = self._item(job, name)
        if item is not None and item.value is not None and not item.value.seen.deleting:
            await self._delete(item, grace_s)

    def changes(self) -> AsyncIterator[JobKey]:
        """Yield the key of every job one of whose pods changes from now on."""
        return self._changes.reader()

    async def _take_over(self, job: Job, name: str) -> None:
        """Find out whose the pod is that has the name already."""
        try:
            document = await self._api.call("GET", pod_documents.path(job.key.namespace, name))
        except Missing as error:
            raise ClusterUnavailable(f"pod {name} was there a moment ago; again soon") from error
        labels = document["metadata"].get("labels") or {}
        if labels.get(LABEL_JOB_UID) == job.uid:
            self._pods.put(document)
        elif labels.get(LABEL_MANAGED_BY) == MANAGED_BY:
            raise ClusterUnavailable(f"pod {name} of an earlier job is not gone yet; again soon")
        else:
            why = f"a pod {name} that is not of this service has the name; delete it"
            if self._recorder is not None:
                self._recorder.tell(job, Note(True, "FailedCreate", why))
            raise ClusterRefused(why)

    async def _delete(self, item: Item[Pod | None], grace_s: int) -> None:
        url = pod_documents.path(item.namespace, item.name)
        try:
            document = await self._api.delete(url, uid=item.uid, grace_s=max(0, grace_s))
        except (Missing, Conflict):
            # Gone, or gone and replaced by another of its name.
            self._pods.drop(item.namespace, item.name, item.uid)
            return
        metadata = document.get("metadata") or {}
        # Without a grace or a finalizer (queueing systems have one) the pod has just gone.
        if metadata.get("deletionGracePeriodSeconds") or metadata.get("finalizers"):
            self._pods.put(document)
        else:
            self._pods.drop(item.namespace, item.name, item.uid)

    async def _end_overdue(self) -> None:
        """Force those pods away that their nodes should have ended long ago: nothing else does
        while a node is lost, and the next pod of the name waits for it."""
        loop = asyncio.get_running_loop()
        while True:
            self._stirred.clear()
            due = min((at for at, _ in self._ending.values()), default=None)
            if due is None or due > loop.time():
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._stirred.wait()
                continue
            for uid, (at, item) in [*self._ending.items()]:
                if at > loop.time():
                    continue
                _log.warning("pod %s/%s is overdue; forcing it away", item.namespace, item.name)
                self._ending[uid] = (loop.time() + _RETRY_S, item)
                try:
                    await self._delete(item, 0)
                except TaasError as error:
                    _log.warning("pod %s/%s: %s", item.namespace, item.name, error)

    def _item(self, job: Job, name: str) -> Item[Pod | None] | None:
        item = self._pods.get(job.key.namespace, name)
        ours = item is not None and item.value is not None and item.value.job_uid == job.uid
        return item if ours else None

    def _changed(self, before: Item[Pod | None] | None, after: Item[Pod | None] | None) -> None:
        if before is not None and before.value is not None:
            pods = self._of_job[before.value.job_uid]
            del pods[before.uid]
            if not pods:
                del self._of_job[before.value.job_uid]
            if after is None or after.uid != before.uid:
                self._ending.pop(before.uid, None)
            self._changes.tell(before.value.job)
        if after is not None and after.value is not None:
            self._of_job.setdefault(after.value.job_uid, {})[after.uid] = after
            grace_s = after.value.ends_within_s
            if grace_s is not None and after.uid not in self._ending:
                at = asyncio.get_running_loop().time() + grace_s + self._overdue_s
                self._ending[after.uid] = (at, after)
                self._stirred.set()
            self._changes.tell(after.value.job)


def owned(job: Job, manifest: Mapping[str, Any]) -> Document:
    """Return the pod to create: in the job's namespace, marked as its own, and going when the
    job goes. Raises ClusterRefused for what is no worker's pod."""
    metadata = dict(manifest.get("metadata") or {})
    labels = dict(metadata.get("labels") or {})
    if not metadata.get("name") or not str(labels.get(LABEL_WORKER, "")).isdecimal():
        raise ClusterRefused(
            f"not the pod of a worker: it needs metadata.name and the label {LABEL_WORKER}"
        )
    marks = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_JOB: job.key.name, LABEL_JOB_UID: job.uid}
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job.key.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    own = {
        "namespace": job.key.namespace,
        "labels": labels | marks,
        "ownerReferences": [owner],
    }
    return {"apiVersion": "v1", "kind": "Pod", **manifest, "metadata": metadata | own}
