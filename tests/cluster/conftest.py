"""Fixtures of tests on a real Kubernetes: the cluster, and a namespace for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import access, layout, lifecycle
from tests.cluster.access import Cluster

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Registers the mark by which `make e2e` chooses and the fast tests leave out."""
    config.addinivalue_line("markers", "cluster: runs on a real Kubernetes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs a cluster."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster of KUBECONFIG if that is set; else the test cluster.

    A test cluster that was up before stays up, so that one who works on it need not wait.
    """
    given = os.environ.get("KUBECONFIG")
    if given and Path(given) != layout.KUBECONFIG:
        yield access.of_user(Path(given))
        return
    if os.geteuid() != 0:
        pytest.skip("run as root to bring a cluster up, or set KUBECONFIG to one of your own")
    was_up = lifecycle.healthy()
    lifecycle.up()
    yield access.own()
    if not was_up:
        lifecycle.down()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace that enforces the restricted standard; deleted with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )
    # Pods are refused until it is there.
    cluster.wait_for("serviceaccount", "default", "create", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
