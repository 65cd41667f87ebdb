"""Who of several controllers leads, by a Lease on a real API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from controller.kubernetes.client import Api, connected
from controller.kubernetes.leader import (
    LABEL_LEADER,
    Candidate,
    LeadershipLost,
    Timing,
    leading,
)
from tests.cluster.apiserver import ApiServer
from tests.contracts.kubernetes_world import remove_pods
from tests.contracts.worlds import TIMEOUT_S, eventually


@pytest.fixture
async def api(api_server: ApiServer) -> AsyncIterator[Api]:
    """An administrator's connection to a server without pods."""
    async with connected(api_server.kubeconfig) as opened:
        await remove_pods(opened)
        yield opened


QUICK = Timing(lease_s=4, renew_deadline_s=3, retry_s=0.1)


def a_candidate(server: ApiServer, pod: str) -> Candidate:
    """Return a candidate with a pod of its own."""
    server.kubectl("run", pod, "--image=none", "--restart=Never")
    return Candidate("default", pod, "test-lease")


def labelled(server: ApiServer) -> str:
    return server.kubectl("get", "pods", "-l", f"{LABEL_LEADER}=true", "-o", "name").strip()


async def lead_until_lost(api: Api, me: Candidate, lose: Callable[[], object]) -> None:
    """Lead, do what makes it lose the Lease, and wait for that."""
    async with asyncio.timeout(TIMEOUT_S), leading(api, me, QUICK):
        lose()
        await asyncio.Event().wait()


@pytest.fixture
def candidates(api_server: ApiServer, api: Api) -> tuple[Candidate, Candidate]:
    """Return two, and no Lease."""
    api_server.kubectl("delete", "lease", "test-lease", "--ignore-not-found")
    return a_candidate(api_server, "one"), a_candidate(api_server, "two")


async def test_a_clean_stop_hands_the_lease_on_at_once(
    api_server: ApiServer, api: Api, candidates: tuple[Candidate, Candidate]
) -> None:
    one, two = candidates
    leads, stop = asyncio.Event(), asyncio.Event()

    async def second() -> None:
        # With this lease only a handing-on makes it a leader before the test gives up.
        async with leading(api, two, Timing(lease_s=600, renew_deadline_s=500)) as leadership:
            await leadership.announce()
            leads.set()
            await stop.wait()

    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
        async with leading(api, one, Timing(lease_s=600, renew_deadline_s=500)) as leadership:
            await leadership.announce()
            assert labelled(api_server) == "pod/one"
            group.create_task(second())
            # As a leader that died leaves it.
            api_server.kubectl("label", "pod", "two", f"{LABEL_LEADER}=true", "--overwrite")
            await eventually(lambda: labelled(api_server) == "pod/one")
            assert not leads.is_set()
        await leads.wait()
        assert labelled(api_server) == "pod/two"
        stop.set()
    assert labelled(api_server) == ""


async def test_a_leader_that_dies_is_followed_when_its_lease_is_over(
    api_server: ApiServer, api: Api, candidates: tuple[Candidate, Candidate]
) -> None:
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "test-lease"},
        "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 2},
    }
    api_server.kubectl("create", "-f", "-", stdin=json.dumps(lease))
    async with asyncio.timeout(TIMEOUT_S), leading(api, candidates[0], QUICK):
        spec = json.loads(api_server.kubectl("get", "lease", "test-lease", "-o", "json"))["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("one", 1)


async def test_a_leader_whose_lease_is_taken_stops(
    api_server: ApiServer, api: Api, candidates: tuple[Candidate, Candidate]
) -> None:
    patch = json.dumps({"spec": {"holderIdentity": "two"}})

    def take() -> None:
        api_server.kubectl("patch", "lease", "test-lease", "--type=merge", "-p", patch)

    with pytest.raises(LeadershipLost, match="held by two"):
        await lead_until_lost(api, candidates[0], take)
    lease = json.loads(api_server.kubectl("get", "lease", "test-lease", "-o", "json"))
    assert lease["spec"]["holderIdentity"] == "two"


async def test_a_leader_that_cannot_renew_stops(
    api_server: ApiServer, api: Api, candidates: tuple[Candidate, Candidate]
) -> None:
    try:
        with pytest.raises(LeadershipLost, match="not renewed in time"):
            await lead_until_lost(api, candidates[0], api_server.kill)
    finally:
        api_server.start()


async def test_a_leader_outlives_a_short_absence_of_the_server(
    api_server: ApiServer, api: Api, candidates: tuple[Candidate, Candidate]
) -> None:
    patient = Timing(lease_s=120, renew_deadline_s=100, retry_s=0.1)
    async with asyncio.timeout(TIMEOUT_S), leading(api, candidates[0], patient):
        api_server.kill()
        api_server.start()
        before = api_server.kubectl("get", "lease", "test-lease", "-o", "json")
        await eventually(
            lambda: api_server.kubectl("get", "lease", "test-lease", "-o", "json") != before
        )
