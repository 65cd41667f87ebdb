"""Jobs in a real API server, and what becomes of that. Pods: test_adapter_pods.py."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.errors import (
    ClusterRefused,
    ClusterUnavailable,
    Conflict,
    InvalidJob,
    JobNotFound,
)
from controller.kubernetes import job_documents
from controller.kubernetes.client import Api, connected
from controller.kubernetes.store import KubernetesStore
from controller.model import Job, JobKey, Phase, Progress, Reason
from controller.ports import JobStore, ListFilter
from tests.cluster.apiserver import ApiServer
from tests.contracts.jobs import DIGEST, RUNNING, a_job, an_entry
from tests.contracts.kubernetes_world import (
    kubernetes_store,
    remove_jobs,
)
from tests.contracts.worlds import TIMEOUT_S, eventually

KEY = JobKey("default", "mnist")


@pytest.fixture
async def store(api_server: ApiServer) -> AsyncIterator[KubernetesStore]:
    async with kubernetes_store(api_server) as opened:
        yield opened


def a_manifest(name: str = "mnist", **spec: Any) -> str:
    """Return what a user gives to `kubectl apply`."""
    own = {
        "task": {"module": "task.py"},
        "source": {"digest": DIGEST, "sizeBytes": 10},
        "workers": 2,
    }
    document = {
        "apiVersion": "taas.dev/v1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "labels": {"team": "vision"}},
        "spec": own | spec,
    }
    return json.dumps(document)


async def job_until(store: JobStore, key: JobKey, condition: Callable[[Job], object]) -> Job:
    """Wait, on the store's changes only, until a job is as wanted."""
    changes = store.changes()
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                job = await store.get(key)
            except JobNotFound:
                pass
            else:
                if condition(job):
                    return job
            await anext(changes)


async def gone(store: JobStore, key: JobKey) -> None:
    """Wait until there is no job of that name."""
    changes = store.changes()
    async with asyncio.timeout(TIMEOUT_S):
        while key in await store.keys():
            await anext(changes)


def finalizers(server: ApiServer) -> list[str]:
    document = json.loads(server.kubectl("get", "tj", "mnist", "-o", "json"))
    return list(document["metadata"].get("finalizers", ()))


# --- Both doors


async def test_kubectl_and_the_store_write_one_job(
    api_server: ApiServer, store: KubernetesStore
) -> None:
    api_server.kubectl("apply", "-f", "-", stdin=a_manifest())
    job = await job_until(store, KEY, lambda job: True)
    assert (job.spec.workers, job.spec.max_restarts, job.labels) == (2, 6, (("team", "vision"),))
    patch = json.dumps({"spec": {"suspend": True}})
    api_server.kubectl("patch", "tj", "mnist", "--type=merge", "-p", patch)
    # The store has not seen that yet: what it writes now must not undo it.
    with pytest.raises(Conflict):
        await store.put_status(job, RUNNING, [])
    job = await store.get(KEY)
    assert job.spec.suspend
    job = await store.put_status(job, RUNNING, [an_entry(1)])
    job = await store.put_spec(job, replace(job.spec, workers=3))
    document = json.loads(api_server.kubectl("get", "tj", "mnist", "-o", "json"))
    assert (document["spec"]["suspend"], document["spec"]["workers"]) == (True, 3)
    assert document["status"]["phase"] == "PHASE_RUNNING"
    assert document["status"]["events"][0]["number"] == 1
    assert job.spec.min_workers == 2


async def test_a_job_is_held_before_its_first_status_and_until_it_is_removed(
    api_server: ApiServer, store: KubernetesStore
) -> None:
    api_server.kubectl("apply", "-f", "-", stdin=a_manifest())
    job = await job_until(store, KEY, lambda job: True)
    assert finalizers(api_server) == []
    job = await store.put_status(job, RUNNING, [])
    assert finalizers(api_server) == [job_documents.FINALIZER]
    api_server.kubectl("delete", "tj", "mnist", "--wait=false")
    job = await job_until(store, KEY, lambda job: job.deleting)
    job = await store.put_status(job, replace(RUNNING, message="going"), [])
    await store.remove(job)
    assert await store.keys() == ()
    assert api_server.kubectl("get", "tj", "-o", "name") == ""


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.SUCCEEDED])
async def test_a_hold_that_is_taken_off_comes_back(
    api_server: ApiServer, store: KubernetesStore, phase: Phase
) -> None:
    job = await store.put_status(await store.create(a_job()), replace(RUNNING, phase=phase), [])
    patch = json.dumps({"metadata": {"finalizers": None}})
    api_server.kubectl("patch", "tj", "mnist", "--type=merge", "-p", patch)
    await job_until(
        store,
        KEY,
        lambda found: (
            found.version != job.version and finalizers(api_server) == [job_documents.FINALIZER]
        ),
    )


async def test_a_new_job_that_nothing_holds_goes_at_once(
    api_server: ApiServer, store: KubernetesStore
) -> None:
    api_server.kubectl("apply", "-f", "-", stdin=a_manifest())
    await job_until(store, KEY, lambda job: True)
    assert (await store.mark_deleting(KEY)).deleting is not None
    assert await store.keys() == ()


async def test_a_finalizer_of_others_keeps_the_job(
    api_server: ApiServer, store: KubernetesStore
) -> None:
    job = await store.create(a_job())
    mine = json.dumps({"metadata": {"finalizers": [job_documents.FINALIZER, "others.dev/x"]}})
    api_server.kubectl("patch", "tj", "mnist", "--type=merge", "-p", mine)
    await store.remove(job)
    await store.remove(job)
    assert (await store.get(KEY)).deleting is not None
    patch = json.dumps({"metadata": {"finalizers": None}})
    api_server.kubectl("patch", "tj", "mnist", "--type=merge", "-p", patch)
    await gone(store, KEY)


async def test_a_job_that_cannot_run_has_failed_and_harms_nobody(
    api_server: ApiServer, store: KubernetesStore
) -> None:
    # Each value may be so long, all of them together not; no schema says so.
    env = {f"NAME_{n}": "x" * 4000 for n in range(30)}
    api_server.kubectl("create", "-f", "-", stdin=a_manifest(env=env))
    await job_until(store, KEY, lambda job: job.status.phase is Phase.FAILED)
    wait = ("wait", "--for=condition=Failed", "tj/mnist", "--timeout=60s")
    await asyncio.to_thread(api_server.kubectl, *wait)
    document = json.loads(api_server.kubectl("get", "tj", "mnist", "-o", "json"))
    assert document["status"]["lastFailure"]["reason"] == Reason.INVALID_SPEC
    assert "bytes as JSON" in document["status"]["message"]
    assert "finalizers" not in document["metadata"]
    job = await job_until(store, KEY, lambda job: job.version != "")
    assert len(await store.entries(job, 0)) == 1
    await store.create(a_job("sound"))


async def test_numbers_that_are_none_can_be_stored(store: KubernetesStore) -> None:
    lost = Progress(step=2**60, loss=math.nan, metrics=(("loss", math.inf),))
    job = await store.put_status(await store.create(a_job()), replace(RUNNING, progress=lost), [])
    assert math.isnan(job.status.progress.loss)
    assert job.status.progress.metrics == lost.metrics
    assert job.status.progress.step == 2**60


async def test_a_namespace_that_is_not_there_is_named(store: KubernetesStore) -> None:
    with pytest.raises(ClusterRefused, match="namespace nowhere does not exist; create it"):
        await store.create(a_job(namespace="nowhere"))


async def test_what_the_api_server_rejects_names_the_field(store: KubernetesStore) -> None:
    with pytest.raises(InvalidJob, match=r"metadata\.name"):
        await store.create(a_job("No Name"))


# --- What becomes of the server


async def test_a_server_that_restarts_is_found_again(
    api_server: ApiServer, store: KubernetesStore, caplog: pytest.LogCaptureFixture
) -> None:
    job = await store.create(a_job())
    api_server.kill()
    await eventually(lambda: "does not answer" in caplog.text)
    with pytest.raises(ClusterUnavailable, match="does not answer"):
        await store.put_status(job, RUNNING, [])
    assert await store.get(KEY) == job
    api_server.start()
    api_server.kubectl("apply", "-f", "-", stdin=a_manifest("later"))
    await job_until(store, JobKey("default", "later"), lambda job: True)
    await store.put_status(await store.get(KEY), RUNNING, [])


async def test_what_the_server_forgot_is_listed_again(
    api_server: ApiServer, store: KubernetesStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "controller.kubernetes.watch")
    await store.create(a_job())
    kept = await store.create(a_job("kept"))
    changes = store.changes()
    # None of this awaits, so the watch learns nothing of it before the history is gone.
    api_server.kill()
    api_server.start()
    patch = json.dumps({"metadata": {"finalizers": None}})
    api_server.kubectl("patch", "tj", "mnist", "--type=merge", "-p", patch)
    api_server.kubectl("delete", "tj", "mnist")
    api_server.kubectl("apply", "-f", "-", stdin=a_manifest("new"))
    api_server.forget_history()
    api_server.kill()
    api_server.start()
    await job_until(store, JobKey("default", "new"), lambda job: True)
    assert set(await store.keys()) == {JobKey("default", "new"), kept.key}
    assert await store.get(kept.key) == kept
    assert "listing again" in caplog.text
    async with asyncio.timeout(TIMEOUT_S):
        told = {await anext(changes), await anext(changes)}
    assert told == {KEY, JobKey("default", "new")}


async def test_a_thousand_jobs(api_server: ApiServer, api: Api, store: KubernetesStore) -> None:
    names = [f"job-{n:04}" for n in range(1000)]
    await asyncio.gather(*(store.create(a_job(name)) for name in names))
    # A second one begins with a list of several pages.
    async with KubernetesStore(api) as other:
        found, token = [], ""
        while True:
            page = await other.list(ListFilter(namespace="default"), 150, token)
            found += [job.key.name for job in page.jobs]
            token = page.next_token
            if not token:
                break
        assert sorted(found) == names
    await remove_jobs(api)
    changes = store.changes()
    async with asyncio.timeout(TIMEOUT_S):
        while await store.keys():
            await anext(changes)


_THROTTLE = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "somebody"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "somebody"}],
    },
    {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "narrow"},
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 0,
                "lendablePercent": 0,
                "borrowingLimitPercent": 0,
                "limitResponse": {"type": "Reject"},
            },
        },
    },
    {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": "narrow"},
        "spec": {
            "priorityLevelConfiguration": {"name": "narrow"},
            "matchingPrecedence": 2,
            "rules": [
                {
                    "subjects": [{"kind": "User", "user": {"name": "somebody"}}],
                    "resourceRules": [
                        {
                            "verbs": ["create"],
                            "apiGroups": ["taas.dev"],
                            "resources": ["trainingjobs"],
                            "namespaces": ["*"],
                        }
                    ],
                }
            ],
        },
    },
]


async def create_patiently(store: JobStore, job: Job) -> None:
    """Create a job the way a client does that is told to come back later."""
    while True:
        try:
            await store.create(job)
        except ClusterUnavailable as error:
            await asyncio.sleep(error.retry_after_s)
        else:
            return


async def test_a_server_that_throttles_is_given_time(
    api_server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "controller.kubernetes.client")
    throttle = json.dumps({"apiVersion": "v1", "kind": "List", "items": _THROTTLE})
    try:
        api_server.kubectl("apply", "-f", "-", stdin=throttle)
        async with (
            connected(api_server.kubeconfig_of_somebody) as api,
            KubernetesStore(api) as store,
            asyncio.timeout(TIMEOUT_S),
        ):
            # One call at a time is let in, once that limit is in force.
            numbers = itertools.count()
            while "throttled, again" not in caplog.text:
                jobs = [a_job(f"throttled-{next(numbers)}") for _ in range(10)]
                await asyncio.gather(*(create_patiently(store, job) for job in jobs))
    finally:
        for item in _THROTTLE:
            name = item["metadata"]["name"]  # type: ignore[index]
            kind = str(item["kind"])
            api_server.kubectl("delete", kind, str(name), "--ignore-not-found")


async def test_without_rights_it_says_so(api_server: ApiServer) -> None:
    async with connected(api_server.kubeconfig_of_nobody) as api:
        with pytest.raises(ClusterRefused, match='User "nobody" cannot list'):
            await api.call("GET", job_documents.ALL)
