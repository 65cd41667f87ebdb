"""Pods and Events of jobs in a real API server, and what becomes of that."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from controller.errors import ClusterRefused, ClusterUnavailable
from controller.gateway.pods import GatewaySettings, gateway_name
from controller.gateway.pool import ClaimMissing
from controller.kubernetes import pod_documents
from controller.kubernetes.client import MERGE, Api
from controller.kubernetes.cluster import KubernetesCluster
from controller.kubernetes.gateways import KubernetesGatewayPods
from controller.kubernetes.recorder import Note, Recorder
from controller.kubernetes.store import KubernetesStore
from controller.model import JobKey
from controller.render import LABEL_WORKER
from tests.cluster.apiserver import ApiServer
from tests.contracts.jobs import RUNNING, a_job, an_entry
from tests.contracts.kubernetes_world import KubernetesWorld
from tests.contracts.worlds import TIMEOUT_S, eventually, manifest, pod_name, pods_until


async def test_a_pod_against_the_rules_is_refused_with_the_reason(
    api_server: ApiServer, api: Api
) -> None:
    label = "pod-security.kubernetes.io/enforce"
    api_server.kubectl("label", "namespace", "other", f"{label}=restricted", "--overwrite")
    try:
        job = a_job(namespace="other")
        async with Recorder(api) as recorder, KubernetesCluster(api, recorder) as cluster:
            with pytest.raises(ClusterRefused, match="violates PodSecurity"):
                await cluster.apply(job, manifest("mnist-0", 0, ["true"]))
            (event,) = await events_until(api, "other", 1)
            assert (event["reason"], event["type"]) == ("FailedCreate", "Warning")
            assert await cluster.pods(job) == ()
    finally:
        api_server.kubectl("label", "namespace", "other", f"{label}-")


async def test_a_name_that_is_taken_is_waited_for_or_named(api_server: ApiServer, api: Api) -> None:
    async with KubernetesCluster(api) as cluster:
        world = KubernetesWorld(api, cluster)
        old = a_job()
        await world.create(old, 0)
        with pytest.raises(ClusterUnavailable, match="earlier job"):
            await cluster.apply(a_job(), manifest("mnist-0", 0, ["true"]))
        await cluster.delete(old, "mnist-0", 0)
        api_server.kubectl("run", "mnist-0", "--image=none", "--restart=Never")
        with pytest.raises(ClusterRefused, match="has the name; delete it"):
            await cluster.apply(a_job(), manifest("mnist-0", 0, ["true"]))


async def test_pods_are_found_again_and_those_of_others_left_alone(
    api_server: ApiServer, api: Api
) -> None:
    job = a_job()
    async with KubernetesCluster(api) as cluster:
        await KubernetesWorld(api, cluster).create(job, 0)
        before = await cluster.pods(job)
    api_server.kubectl("run", "stranger", "--image=none", "--labels=taas.dev/job=mnist")
    async with KubernetesCluster(api) as cluster:
        assert await cluster.pods(job) == before
        await cluster.delete(job, "stranger", 0)
    assert "stranger" in api_server.kubectl("get", "pods", "-o", "name")


async def test_pods_labelled_in_another_namespace_are_not_the_jobs(api: Api) -> None:
    job = a_job()
    async with KubernetesCluster(api) as cluster:
        await KubernetesWorld(api, cluster).create(job, 0)
        before = await cluster.pods(job)
        forged = await api.call("GET", pod_documents.path("default", "mnist-0"))
        labels, spec = forged["metadata"]["labels"], forged["spec"]
        for name, index in (("mnist-0", "0"), ("mnist-1", "1")):
            metadata = {"name": name, "labels": labels | {LABEL_WORKER: index}}
            body = {"metadata": metadata, "spec": {"containers": spec["containers"]}}
            await api.call("POST", pod_documents.path("other"), body=body)
        # Told of as pods of a job of their own namespace, which is not this one.
        theirs = replace(job, key=JobKey("other", job.key.name))
        await pods_until(cluster, theirs, lambda pods: len(pods) == 2)
        assert await cluster.pods(job) == before
        await cluster.delete(job, "mnist-1", 0)
        assert len(await cluster.pods(theirs)) == 2


async def test_a_pod_that_its_node_does_not_end_is_forced_away(api: Api) -> None:
    job = a_job()
    async with KubernetesCluster(api, overdue_s=0.5) as cluster:
        await KubernetesWorld(api, cluster).create(job, 0)
        await cluster.delete(job, pod_name(job, 0), 1)
        (pod,) = await cluster.pods(job)
        assert pod.deleting
        await pods_until(cluster, job, lambda pods: not pods)


async def test_a_server_that_restarts_shows_the_pods_again(api_server: ApiServer, api: Api) -> None:
    job = a_job()
    async with KubernetesCluster(api) as cluster:
        world = KubernetesWorld(api, cluster)
        await world.create(job, 0)
        api_server.kill()
        with pytest.raises(ClusterUnavailable):
            await cluster.delete(job, "mnist-0", 30)
        assert len(await cluster.pods(job)) == 1
        api_server.start()
        await world.leave(job, 0, 1)
        (pod,) = await cluster.pods(job)
        assert pod.message == "exit code 1"


# --- Gateways


def a_claim(name: str) -> dict[str, Any]:
    """A claim that nothing binds."""
    resources = {"requests": {"storage": "1Gi"}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": resources},
    }


def names(api_server: ApiServer) -> str:
    """The names of all pods, a line each."""
    return api_server.kubectl("get", "pods", "-o", "name")


async def test_a_gateway_is_not_waited_for_when_its_claim_goes(
    api_server: ApiServer, api: Api
) -> None:
    api_server.kubectl("apply", "-f", "-", stdin=json.dumps(a_claim("never-bound")))
    settings = GatewaySettings(image="none")
    async with (
        KubernetesGatewayPods(api, settings, look_again_s=0.05) as pods,
        asyncio.timeout(TIMEOUT_S),
    ):
        waiting = asyncio.create_task(pods.ensure("default", "never-bound"))
        await eventually(lambda: gateway_name("never-bound") in names(api_server))
        assert not waiting.done()
        api_server.kubectl("delete", "pvc", "never-bound", "--wait=false")
        with pytest.raises(ClaimMissing, match="'never-bound'"):
            await waiting
        await pods.delete("default", "never-bound")


@pytest.mark.parametrize("how", ["silent", "never seen", "leaving"])
async def test_a_gateway_on_a_lost_node_is_replaced(
    api_server: ApiServer, api: Api, how: str
) -> None:
    claim = "lost-node"
    api_server.kubectl("apply", "-f", "-", stdin=json.dumps(a_claim(claim)))
    path = pod_documents.path("default", gateway_name(claim))
    async with (
        KubernetesGatewayPods(api, GatewaySettings(image="none"), look_again_s=0.05) as pods,
        asyncio.timeout(TIMEOUT_S),
    ):
        waiting = asyncio.create_task(pods.ensure("default", claim))
        await eventually(lambda: gateway_name(claim) in names(api_server))
        first = (await api.call("GET", path))["metadata"]["uid"]
        target = {"apiVersion": "v1", "kind": "Node", "name": "lost"}
        binding = {"metadata": {"name": gateway_name(claim)}, "target": target}
        await api.call("POST", f"{path}/binding", body=binding)
        if how == "silent":
            conditions = [
                {"type": "Ready", "status": "False"},
                {"type": "ContainersReady", "status": "True"},
            ]
            status = {"phase": "Running", "startTime": "2030-01-01T00:00:00Z"}
            body = {"status": {**status, "conditions": conditions}}
            await api.call("PATCH", f"{path}/status", body=body, content_type=MERGE)
        elif how == "leaving":
            api_server.kubectl("delete", "pod", gateway_name(claim), "--wait=false")

        def replaced() -> bool:
            uid = api_server.kubectl(
                "get",
                "pod",
                gateway_name(claim),
                "-o",
                "jsonpath={.metadata.uid}",
                "--ignore-not-found",
            )
            return uid not in ("", first)

        await eventually(replaced)
        waiting.cancel()
        await pods.delete("default", claim)


# --- Events


async def events_until(api: Api, namespace: str, count: int) -> list[dict[str, Any]]:
    """Wait for so many Events of jobs."""
    url = f"/api/v1/namespaces/{namespace}/events"
    query = {"fieldSelector": "involvedObject.kind=TrainingJob"}
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            found = (await api.call("GET", url, query=query))["items"]
            if len(found) >= count:
                return list(found)
            await asyncio.sleep(0.05)


async def test_events_tell_of_a_job(api_server: ApiServer, api: Api) -> None:
    api_server.kubectl("delete", "events", "--all")
    async with Recorder(api, instance="me") as recorder, KubernetesStore(api, recorder) as store:
        job = await store.create(a_job())
        job = await store.put_status(job, RUNNING, [an_entry(1), an_entry(2)])
        for _ in range(2):
            recorder.tell(job, Note(True, "FailedCreate", "no more quota"))
        await events_until(api, "default", 2)
        await eventually(lambda: "x2 over" in api_server.kubectl("describe", "tj", "mnist"))
        text = api_server.kubectl("describe", "tj", "mnist")
    assert "Restarting" in text
    assert "no more quota" in text
