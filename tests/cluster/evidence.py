"""What a cluster can tell about a test that has failed."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.cluster import layout
from tests.cluster.access import Cluster
from tests.cluster.commands import CommandFailed
from tests.cluster.installed import NAMESPACE

_MOST_LINES = 60


def of_failure(cluster: Cluster, namespace: str | None) -> list[tuple[str, str]]:
    """Titles and texts: jobs, pods, events and logs of the test's namespace, the controllers."""
    looks = [(NAMESPACE, "get pods -o wide"), *_logs(cluster, NAMESPACE)]
    if namespace is not None:
        tables = ("trainingjobs -o wide", "pods -o wide", "events --sort-by=.lastTimestamp")
        looks += [(namespace, f"get {table}") for table in tables]
        looks += _logs(cluster, namespace)
    return [_told(cluster, *look) for look in looks] + (_nodes(cluster) if cluster.ours else [])


def _nodes(cluster: Cluster) -> list[tuple[str, str]]:
    """What the services of nodes that are not Ready have said."""
    logs: list[Path] = []
    with contextlib.suppress(CommandFailed):
        lost = [layout.node(name) for name in cluster.nodes if not cluster.ready(name)]
        logs = [layout.log(node, name) for node in lost for name in ("", *layout.NODE_SERVICES)]
    return [(log.name, _end(log.read_text())) for log in logs if log.exists()]


def _logs(cluster: Cluster, namespace: str) -> list[tuple[str, str]]:
    names: list[str] = []
    with contextlib.suppress(CommandFailed):
        names = cluster.kubectl("get", "pods", "-n", namespace, "-o", "name").split()
    return [(namespace, f"logs {name} --tail={_MOST_LINES}") for name in names]


def _told(cluster: Cluster, namespace: str, words: str) -> tuple[str, str]:
    try:
        text = cluster.kubectl("-n", namespace, *words.split())
    except CommandFailed as error:
        text = str(error)
    return f"kubectl -n {namespace} {words}", _end(text)


def _end(text: str) -> str:
    return "\n".join(text.splitlines()[-_MOST_LINES:])
