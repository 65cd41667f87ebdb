"""The service as a platform engineer installs it, and a way to it from where the tests run."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

import taas
from taas.errors import TaasError
from tests.cluster.access import Cluster
from tests.cluster.commands import say, wait_until
from tests.cluster.layout import PROJECT

NAMESPACE = "taas-system"
DEPLOYMENT = "deployment/taas-controller"
PORT, WORKERS_PORT = 8470, 8474
# Who the clients of the tests are.
_USER = "taas-tests"
_CONTROLLERS = "app.kubernetes.io/name=taas-controller"
_LEADER = "taas.dev/leader=true"
# Tells an installation of the tests, which may be replaced, from one that people use.
_OURS = "taas.dev/tests"
_BASE = PROJECT / "deploy"


@dataclass(frozen=True, slots=True)
class Service:
    """The installed service. target, workers_target: where the tests reach it as clients, and as
    workers."""

    cluster: Cluster
    target: str
    workers_target: str

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl says in the namespace of the service."""
        return self.cluster.kubectl("-n", NAMESPACE, *words, stdin=stdin)

    def client(self, namespace: str = "default") -> taas.Client:
        """A client to be closed; its calls outlast a change of leaders."""
        return taas.Client(self.target, namespace, retry_for_s=60)

    def controllers(self) -> list[dict[str, Any]]:
        """The controllers' pods, those that are going away included."""
        text = self.kubectl("get", "pods", "-l", _CONTROLLERS, "-o", "json")
        return cast("list[dict[str, Any]]", json.loads(text)["items"])

    def leader(self, *, after: str = "") -> tuple[str, str]:
        """The name of the pod that leads and its container, once one does, and not in the
        container before. A controller that is started again has another container."""
        container = ".status.containerStatuses[0].containerID"
        query = f"jsonpath={{range .items[*]}}{{.metadata.name}} {{{container}}} {{end}}"
        found: list[str] = []

        def leads() -> bool:
            found[:] = self.kubectl("get", "pods", "-l", _LEADER, "-o", query).split()
            return len(found) == 2 and found[1] != after

        wait_until("a controller to lead", leads)
        return found[0], found[1]

    def rolled_out(self) -> None:
        """Returns when all controllers are of the newest version and ready."""
        self.kubectl("rollout", "status", DEPLOYMENT, "--timeout=600s")


def overlay(folder: Path, cluster: Cluster) -> Path:
    """A kustomization in the folder: what is deployed, with the images of the tests."""
    images = {"taas-controller": cluster.images.controller, "taas-trainer": cluster.images.trainer}
    chosen = []
    for name, image in images.items():
        place, _, tag = image.rpartition(":")
        chosen.append({"name": name, "newName": place, "newTag": tag})
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {_OURS: "true"}},
    }
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(_BASE, folder.resolve())],
        "images": chosen,
        "patches": [{"patch": json.dumps(namespace)}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kustomization.yaml").write_text(json.dumps(document, indent=1))
    return folder


@contextlib.contextmanager
def installed(cluster: Cluster, folder: Path) -> Iterator[Service]:
    """The service of the present code, as `kubectl apply -k` installs it or brings it up to date.

    A user's cluster is left without it; a cluster of the tests' own keeps it for a look.
    """
    _refuse_to_replace(cluster)
    say(f"installing the service into {NAMESPACE}")
    cluster.kubectl("apply", "-k", str(overlay(folder, cluster)))
    with contextlib.ExitStack() as stack:
        if not cluster.ours:
            stack.callback(cluster.kubectl, "delete", "-k", str(folder), "--wait=false")
            targets = stack.enter_context(_forwarded(cluster, PORT, WORKERS_PORT))
        else:
            address = cluster.get("service", "taas", NAMESPACE)["spec"]["clusterIP"]
            targets = [f"{address}:{port}" for port in (PORT, WORKERS_PORT)]
        service = Service(cluster, *targets)
        service.rolled_out()
        stack.enter_context(_known(cluster, folder))
        wait_until(f"the service at {service.target} to answer", lambda: _answers(service))
        yield service


@contextlib.contextmanager
def _known(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Clients of the tests, and the commands that they run, know the service by its certificate
    and show it the token of somebody who may do with jobs whatever there is to do."""
    user = {"kind": "ServiceAccount", "name": _USER, "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named(_USER)})
    for role in ("taas-user-view", "taas-user-edit"):
        cluster.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"{_USER}-{role}"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": role,
                },
                "subjects": [user],
            }
        )
    token, certificates = folder / "token", folder / "ca.crt"
    create = ("create", "token", _USER, "--audience=taas.dev", "--duration=24h")
    token.write_text(cluster.kubectl("-n", NAMESPACE, *create))
    # There as soon as a controller leads for the first time.
    wait_until("the certificate", lambda: _authority(cluster))
    certificates.write_bytes(_authority(cluster))
    known = {
        "TAAS_TOKEN_FILE": str(token),
        "TAAS_CA_FILE": str(certificates),
        "TAAS_SERVER_NAME": f"taas.{NAMESPACE}.svc",
    }
    before = {name: os.environ.get(name) for name in known}
    os.environ.update(known)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _named(name: str) -> dict[str, str]:
    return {"name": name, "namespace": NAMESPACE}


def _authority(cluster: Cluster) -> bytes:
    query = "jsonpath={.data.ca\\.crt}"
    words = ("-n", NAMESPACE, "get", "secret", "taas-tls", "--ignore-not-found", "-o", query)
    return base64.b64decode(cluster.kubectl(*words))


def _refuse_to_replace(cluster: Cluster) -> None:
    query = "jsonpath={.metadata.labels.taas\\.dev/tests}"
    found = cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name")
    if not found or cluster.ours:
        return
    if cluster.kubectl("get", "namespace", NAMESPACE, "-o", query) != "true":
        pytest.exit(
            f"{NAMESPACE} is there already, and not made by these tests: they would replace the "
            "service that people use; point KUBECONFIG at another cluster",
            4,
        )


def _answers(service: Service) -> bool:
    with contextlib.suppress(TaasError), service.client() as client:
        return bool(client.service_info().version)
    return False


@contextlib.contextmanager
def _forwarded(cluster: Cluster, *ports: int) -> Iterator[list[str]]:
    """Addresses of this machine that lead to ports of the service, begun again whenever it
    breaks."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in ports]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        free = [probe.getsockname()[1] for probe in probes]
    pairs = [f"{here}:{port}" for here, port in zip(free, ports, strict=True)]
    command = cluster.command("-n", NAMESPACE, "port-forward", "service/taas", *pairs)
    script = 'while true; do "$@" >/dev/null 2>&1; sleep 0.5; done'
    forwarding = subprocess.Popen(["sh", "-c", script, "sh", *command], start_new_session=True)
    try:
        yield [f"127.0.0.1:{port}" for port in free]
    finally:
        os.killpg(forwarding.pid, 9)
        forwarding.wait()
