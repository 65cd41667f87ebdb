"""Fixtures of tests on a real Kubernetes: the cluster, and a namespace for each test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import pytest

from controller.kubernetes.client import Api, connected
from tests.cluster import access, evidence, lifecycle
from tests.cluster.access import Cluster
from tests.cluster.apiserver import ApiServer
from tests.cluster.commands import say
from tests.cluster.installed import Service, installed
from tests.cluster.team import Team, new_namespace, team_in
from tests.contracts.kubernetes_world import remove_jobs, remove_pods

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Registers the mark by which `make e2e` chooses and the fast tests leave out."""
    config.addinivalue_line("markers", "cluster: runs on a real Kubernetes")
    config.addinivalue_line("markers", "nodes: uses more of it than an API server of its own")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs a cluster, or an API server of its own. Those that use the
    cluster go one after the other: some break what others use, and all have but the processors of
    this machine."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)
            if "cluster" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.nodes)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Whoever reads a failure sees what the cluster knew of it."""
    report = yield
    fixtures = getattr(item, "funcargs", {})
    if report.failed and isinstance(cluster := fixtures.get("cluster"), Cluster):
        report.sections += evidence.of_failure(cluster, fixtures.get("namespace"))
        # At once, since the others may take minutes.
        with _shown(item.config):
            say(f"{item.nodeid}\n{report.longreprtext[-2000:]}")
    return report


def _shown(config: pytest.Config) -> AbstractContextManager[None]:
    """Within, what is said is seen by whoever runs the tests."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    return cast("AbstractContextManager[None]", capture.global_and_fixture_disabled())


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster of KUBECONFIG if that is set; else the test cluster.

    A test cluster that was up before stays up, so that one who works on it need not wait.
    """
    if (given := access.kubeconfig_of_user()) is not None:
        yield access.of_user(given)
        return
    if os.geteuid() != 0:
        pytest.skip("run as root to bring a cluster up, or set KUBECONFIG to one of your own")
    was_up = lifecycle.healthy()
    try:
        # The first time takes minutes: say what is being done.
        with _shown(request.config):
            lifecycle.up()
        yield access.own()
    finally:
        if not was_up:
            lifecycle.down()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace for the test alone."""
    with new_namespace(cluster) as name:
        yield name


@pytest.fixture(scope="session")
def service(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service, installed on the cluster; one installation for all tests."""
    with installed(cluster, tmp_path_factory.mktemp("overlay")) as found:
        yield found


@pytest.fixture
def team(service: Service, namespace: str) -> Iterator[Team]:
    """A namespace with a claim, whose people use the service."""
    with team_in(service, namespace) as found:
        yield found


@pytest.fixture
def other_team(service: Service) -> Iterator[Team]:
    """Another namespace with a claim of its own."""
    with new_namespace(service.cluster) as name, team_in(service, name) as found:
        yield found


@pytest.fixture
def gpus(cluster: Cluster) -> Iterator[None]:
    """Every node offers one GPU, and none afterwards."""
    for node in cluster.nodes:
        cluster.set_gpus(node, 1)
    yield
    for node in cluster.nodes:
        cluster.set_gpus(node, 0)


@pytest.fixture
async def api(api_server: ApiServer) -> AsyncIterator[Api]:
    """An administrator's connection to a server without jobs and pods."""
    async with connected(api_server.kubeconfig) as opened:
        await remove_jobs(opened)
        await remove_pods(opened)
        yield opened
