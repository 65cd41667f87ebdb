"""What the guard may rely on: the same tests for the fake and for the cluster's own reviews."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from controller.access.callers import Action, Caller, PodIdentity
from controller.access.ports import Access
from controller.errors import ClusterUnavailable, Unauthenticated
from controller.kubernetes.access import AccessTimes, KubernetesAccess
from controller.kubernetes.client import connected
from tests.cluster import tokens
from tests.cluster.apiserver import ApiServer
from tests.contracts.kubernetes_world import KUBERNETES
from tests.contracts.worlds import TIMEOUT_S
from tests.fakes import FakeAccess

AUDIENCE, WORKERS = "taas.dev", "workers.taas.dev"
GET, LOGS = Action("get", "default", "mnist"), Action("get", "default", "mnist", "log")


class AccessWorld:
    """An Access, a caller `ada` with the right to GET in namespace default, and her pod."""

    access: Access
    ada: str  # her token
    pods: str  # the token of her pod
    others: tuple[str, ...]  # tokens that are good for nothing here
    pod: PodIdentity
    away: Callable[[], AbstractContextManager[None]]


def fake() -> AccessWorld:
    world, access = AccessWorld(), FakeAccess()
    world.access, world.ada, world.pods, world.others = access, "a", "p", ("x",)
    world.pod = PodIdentity("uid", "default")
    access.callers = {"a": Caller("system:serviceaccount:default:ada")}
    access.pods = {"p": world.pod}
    access.rights = {("system:serviceaccount:default:ada", "get", "default", "")}

    @contextmanager
    def away() -> Any:
        access.away = True
        yield
        access.away = False

    world.away = away
    return world


def kubernetes(server: ApiServer) -> AccessWorld:
    """Prepare users and pods on a server; the access itself needs a connection."""
    world = AccessWorld()
    for kind in ("role/reader", "rolebinding/ada", "serviceaccount/ada", "pod/adas"):
        server.kubectl("delete", kind, "--ignore-not-found", "--grace-period=0", "--force")
    server.kubectl("create", "serviceaccount", "ada")
    server.kubectl("create", "role", "reader", "--verb=get", "--resource=trainingjobs.taas.dev")
    server.kubectl("create", "rolebinding", "ada", "--role=reader", "--serviceaccount=default:ada")
    overrides = json.dumps({"spec": {"serviceAccountName": "ada"}})
    server.kubectl("run", "adas", "--image=none", f"--overrides={overrides}")
    uid = server.kubectl("get", "pod", "adas", "-o", "jsonpath={.metadata.uid}")

    def token(audience: str, *bound: str) -> str:
        return server.kubectl("create", "token", "ada", f"--audience={audience}", *bound).strip()

    to_pod = ("--bound-object-kind=Pod", "--bound-object-name=adas")
    world.ada, world.pods = token(AUDIENCE), token(WORKERS, *to_pod)
    world.pod = PodIdentity(uid, "default")
    # One of another audience, one that is tampered with, one of the API server's own.
    head, _, signature = world.ada.rpartition(".")
    own = server.kubectl("create", "token", "ada").strip()
    world.others = (token("else"), f"{head}.{signature[::-1]}", own, "token-of-admin", "x" * 9000)

    @contextmanager
    def away() -> Any:
        server.kill()
        try:
            yield
        finally:
            server.start()

    world.away = away
    return world


@pytest.fixture(params=["fake", KUBERNETES])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[AccessWorld]:
    if request.param == "fake":
        yield fake()
        return
    server: ApiServer = request.getfixturevalue("api_server")
    made = kubernetes(server)
    async with connected(server.kubeconfig) as api:
        # Nothing is remembered, so that every question is the cluster's.
        times = AccessTimes(known_s=0, unknown_s=0, allowed_s=0, denied_s=0)
        made.access = KubernetesAccess(api, (AUDIENCE,), times)
        yield made


async def test_a_token_says_who_calls(world: AccessWorld) -> None:
    caller = await world.access.caller(world.ada)
    assert caller.name == "system:serviceaccount:default:ada"


async def test_other_tokens_are_nobodys(world: AccessWorld) -> None:
    for token in ("", *world.others, world.pods):
        with pytest.raises(Unauthenticated):
            await world.access.caller(token)
    for token in ("", *world.others, world.ada):
        with pytest.raises(Unauthenticated):
            await world.access.pod(token)


async def test_a_pods_token_says_which_pod(world: AccessWorld) -> None:
    assert await world.access.pod(world.pods) == world.pod


async def test_a_right_is_no_more_than_it_says(world: AccessWorld) -> None:
    ada = await world.access.caller(world.ada)
    assert (await world.access.verdict(ada, GET)).allowed
    for action in (
        LOGS,
        Action("update", "default", "mnist"),
        Action("get", "other", "mnist"),
        Action("list", ""),
        Action("get", ""),
    ):
        assert not (await world.access.verdict(ada, action)).allowed, action
    assert not (await world.access.verdict(Caller("bob"), GET)).allowed


async def test_while_the_cluster_is_away_nothing_is_said(world: AccessWorld) -> None:
    ada = await world.access.caller(world.ada)
    with world.away():
        for question in (
            world.access.caller(world.ada),
            world.access.pod(world.pods),
            world.access.verdict(ada, GET),
        ):
            with pytest.raises(ClusterUnavailable):
                await question


@pytest.mark.cluster
async def test_the_token_of_a_deleted_pod_is_nobodys(api_server: ApiServer) -> None:
    made = kubernetes(api_server)
    async with connected(api_server.kubeconfig) as api:
        access = KubernetesAccess(api, (AUDIENCE,), AccessTimes(known_s=0, unknown_s=0))
        assert await access.pod(made.pods) == made.pod
        api_server.kubectl("delete", "pod", "adas", "--grace-period=0", "--force")

        async def refused() -> None:
            while True:
                await access.pod(made.pods)

        # The API server itself remembers for ten seconds whom it has known.
        async with asyncio.timeout(TIMEOUT_S):
            with pytest.raises(Unauthenticated):
                await refused()


@pytest.mark.cluster
async def test_answers_serve_for_their_time_and_no_longer(api_server: ApiServer) -> None:
    made = kubernetes(api_server)
    async with connected(api_server.kubeconfig) as api:
        access = KubernetesAccess(api, (AUDIENCE,), AccessTimes(known_s=1000, allowed_s=1000))
        ada = await access.caller(made.ada)
        assert (await access.verdict(ada, GET)).allowed
        with made.away():
            assert await access.caller(made.ada) == ada
            assert (await access.verdict(ada, GET)).allowed
            with pytest.raises(ClusterUnavailable):
                await access.verdict(ada, LOGS)


@pytest.mark.cluster
async def test_a_controller_without_the_right_to_ask_lets_nobody_in(api_server: ApiServer) -> None:
    made = kubernetes(api_server)
    async with connected(api_server.kubeconfig_of_nobody) as api:
        with pytest.raises(ClusterUnavailable, match="callers cannot be checked"):
            await KubernetesAccess(api, (AUDIENCE,)).caller(made.ada)


@pytest.mark.cluster
async def test_an_expired_token_is_nobodys(api_server: ApiServer) -> None:
    made = kubernetes(api_server)
    key = api_server.kubeconfig.with_name("service-accounts.key")
    renewed = tokens.resigned(made.ada, key)
    async with connected(api_server.kubeconfig) as api:
        access = KubernetesAccess(api, (AUDIENCE,))
        assert (await access.caller(renewed)).name.endswith(":ada")
        with pytest.raises(Unauthenticated, match="expired"):
            await access.caller(tokens.expired(made.ada, key))
