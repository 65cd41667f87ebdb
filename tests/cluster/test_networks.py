"""The NetworkPolicies of deploy/ with real traffic: what has to pass does, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.cluster import layout
from tests.cluster.access import SAFE, Cluster
from tests.cluster.enforcement import enforced
from tests.cluster.installed import NAMESPACE, PORT, WORKERS_PORT
from tests.cluster.team import DIGITS, Team, watching

ENDLESS = 1_000_000
GATEWAY = "app.kubernetes.io/name=taas-gateway"
# Says of each HOST:PORT whether a connection to it comes about; of all at once, since one that is
# shut takes seconds.
KNOCK = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def knock(place):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
        return "open"
    except OSError:
        return "shut"
with ThreadPoolExecutor(len(sys.argv)) as pool:
    print(*pool.map(knock, sys.argv[1:]))
"""
# Prints a port at which something of the pod listens for others.
LISTENING = """
for name in ("/proc/net/tcp", "/proc/net/tcp6"):
    for line in open(name).readlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        address, port = local.split(":")
        if state == "0A" and not address.endswith("0100007F"):
            print(int(port, 16))
"""


@pytest.fixture
def bystanders(team: Team, other_team: Team) -> Iterator[None]:
    """A pod that has nothing to do with training, in either namespace."""
    with contextlib.ExitStack() as stack:
        for each in (team, other_team):
            stack.enter_context(bystander(each))
        yield


@contextlib.contextmanager
def bystander(team: Team) -> Iterator[None]:
    container = {
        "name": "worker",
        "image": team.cluster.images.trainer,
        "command": ["sleep", "1000000"],
        "securityContext": SAFE,
    }
    metadata = {"name": "bystander", "namespace": team.namespace}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    team.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    team.cluster.wait_for("pod", "bystander", "condition=Ready", team.namespace)
    yield
    team.kubectl("delete", "pod", "bystander", "--wait=false")


def knocked(team: Team, pod: str, places: dict[str, str]) -> dict[str, bool]:
    """Which of the places a pod reaches, by their names."""
    said = team.in_pod(pod, KNOCK, *places.values()).split()
    return dict(zip(places, (word == "open" for word in said), strict=True))


def listens(team: Team, pod: str) -> str:
    """Where a worker listens for the others of its group."""
    port = team.in_pod(pod, LISTENING).split()[0]
    return f"{ip(team.cluster, team.namespace, pod)}:{port}"


def ip(cluster: Cluster, namespace: str, pod: str) -> str:
    return str(cluster.get("pod", pod, namespace)["status"]["podIP"])


@pytest.mark.usefixtures("bystanders")
def test_policies_let_through_what_is_needed_and_nothing_else(team: Team, other_team: Team) -> None:
    for each in (team, other_team):
        each.apply(each.manifest("job", steps=ENDLESS))
    for each in (team, other_team):
        each.until_steps("job")
    # A gateway comes with the first question.
    assert team.client.files("job") is not None
    gateway = team.kubectl("get", "pods", "-l", GATEWAY, "-o", "jsonpath={.items[0].status.podIP}")
    leader, _ = team.service.leader()
    controller = ip(team.cluster, NAMESPACE, leader)
    places = {
        "worker": listens(team, "job-0"),
        "other's worker": listens(other_team, "job-0"),
        "gateway": f"{gateway}:8471",
        "API": f"{controller}:{PORT}",
        "workers' door": f"{controller}:{WORKERS_PORT}",
        "metrics": f"{controller}:8473",
        "API server": f"{layout.HOST_IP}:6443",
    }
    from_where = [(team, "job-1"), (team, "bystander"), (other_team, "bystander")]
    for each, pod in from_where:
        # Without enforcement everybody reaches everything.
        assert all(knocked(each, pod, places).values()), pod

    with enforced(team.cluster) as settled:
        settled()
        passes = [
            {name for name, let in knocked(each, pod, places).items() if let}
            for each, pod in from_where
        ]
        assert passes == [
            {"worker", "workers' door"},
            # Nobody has said what pods that are none of ours may call; what is ours is shut.
            {"API", "API server"},
            {"API", "API server"},
        ]
        # And all that there is works behind them: names, streams, gradients across nodes, logs,
        # files through a gateway, and a job that begins only now.
        for each in (team, other_team):
            reached = each.client.get("job").status.progress.step
            each.until_steps("job", beyond=reached)
            assert each.client.get("job").status.restarts == 0
            assert each.client.files("job") is not None
        team.client.submit(DIGITS, name="late", workers=2, parameters={"steps": 100})
        story = watching(team, "late").join()
        assert max(story.steps) == 100
        assert team.client.get("late").status.restarts == 0
        assert team.taas("logs", "late")
