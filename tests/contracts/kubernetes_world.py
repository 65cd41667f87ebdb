"""The Kubernetes adapter over a real API server, for the contract tests.

No kubelet runs there; what one would do to a pod, the world does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from controller.errors import Conflict
from controller.kubernetes import job_documents, pod_documents
from controller.kubernetes.client import MERGE, Api, connected
from controller.kubernetes.cluster import KubernetesCluster
from controller.kubernetes.replies import Missing
from controller.kubernetes.store import KubernetesStore
from controller.model import Job, PodPhase
from controller.ports import Cluster
from tests.cluster.apiserver import ApiServer
from tests.contracts.worlds import manifest, pod_name, pods_until

KUBERNETES = pytest.param("kubernetes", marks=pytest.mark.cluster)


@asynccontextmanager
async def kubernetes_store(server: ApiServer) -> AsyncIterator[KubernetesStore]:
    """A store without jobs."""
    async with connected(server.kubeconfig) as api:
        await remove_jobs(api)
        async with KubernetesStore(api) as store:
            yield store


@asynccontextmanager
async def kubernetes_world(server: ApiServer) -> AsyncIterator[KubernetesWorld]:
    """A cluster without pods."""
    async with connected(server.kubeconfig) as api:
        await remove_pods(api)
        async with KubernetesCluster(api) as cluster:
            yield KubernetesWorld(api, cluster)


async def remove_jobs(api: Api) -> None:
    """Remove all jobs at once, whoever holds them."""
    listed = await api.call("GET", job_documents.ALL)
    await asyncio.gather(*(_remove_job(api, item["metadata"]) for item in listed["items"]))


async def _remove_job(api: Api, metadata: dict[str, Any]) -> None:
    url = job_documents.path(metadata["namespace"], metadata["name"])
    with suppress(Missing, Conflict):
        body = {"metadata": {"finalizers": None}}
        await api.call("PATCH", url, body=body, content_type=MERGE)
        await api.call("DELETE", url)


async def remove_pods(api: Api) -> None:
    """Remove all pods at once."""
    for namespace in ("default", "other"):
        url = pod_documents.path(namespace)
        await api.call("DELETE", url, body={"gracePeriodSeconds": 0})


class KubernetesWorld:
    """The world of a KubernetesCluster."""

    def __init__(self, api: Api, cluster: KubernetesCluster) -> None:
        self._api = api
        self.cluster: Cluster = cluster

    async def create(self, job: Job, index: int) -> None:
        """Apply a pod, bind it to a node and say that it runs."""
        name = pod_name(job, index)
        await self.cluster.apply(job, manifest(name, index, ["true"]))
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"},
        }
        url = pod_documents.path(job.key.namespace, f"{name}/binding")
        await self._api.call("POST", url, body=binding)
        await self.say(job, index, PodPhase.RUNNING, {"running": {}})

    async def leave(self, job: Job, index: int, code: int) -> None:
        """Say that the container ended."""
        phase = PodPhase.FAILED if code else PodPhase.SUCCEEDED
        reason = "Error" if code else "Completed"
        await self.say(job, index, phase, {"terminated": {"exitCode": code, "reason": reason}})

    async def let_go(self, job: Job, index: int) -> None:
        """Say that a pod that is being deleted has ended."""
        url = pod_documents.path(job.key.namespace, pod_name(job, index))
        with suppress(Missing):
            await self._api.call("DELETE", url, body={"gracePeriodSeconds": 0})

    async def say(self, job: Job, index: int, phase: PodPhase, state: dict[str, Any]) -> None:
        """Be the kubelet: report a state, and wait until the cluster has seen it."""
        container = {
            "name": "worker",
            "image": "none",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
        status = {"phase": phase.value, "containerStatuses": [container]}
        url = pod_documents.path(job.key.namespace, f"{pod_name(job, index)}/status")
        await self._api.call("PATCH", url, body={"status": status}, content_type=MERGE)
        await pods_until(
            self.cluster,
            job,
            lambda pods: any(p.index == index and p.phase is phase for p in pods),
        )
