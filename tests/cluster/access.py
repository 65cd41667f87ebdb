"""The cluster as tests use it: our own, whose parts can be broken, or a user's by KUBECONFIG."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.cluster import control_plane, layout, lifecycle
from tests.cluster.commands import run, wait_until
from tests.cluster.images import Images

# Where a user's cluster finds the images that the tests run.
_IMAGE_ENV = {
    kind: f"TAAS_TEST_{kind.upper()}_IMAGE"
    for kind in ("probe", "trainer", "controller", "mnist", "serving")
}


# What the restricted Pod Security Standard asks for of a container.
SAFE = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kubernetes with at least two nodes. `ours` says whether its parts may be broken."""

    ours: bool
    kubeconfig: Path
    images: Images
    nodes: tuple[str, ...]

    def command(self, *words: str) -> list[str]:
        """The whole command line of a kubectl as administrator, for those who start it."""
        if self.ours:
            return [*lifecycle.kubectl_command(), *words]
        return ["kubectl", f"--kubeconfig={self.kubeconfig}", *words]

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl says as administrator. Raises CommandFailed with its complaint."""
        return run(*self.command(*words), stdin=stdin)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side apply of manifests."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "-f", "-", stdin=document)

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """One object. Raises CommandFailed if it is not there."""
        text = self.kubectl("get", kind, name, "-n", namespace, "-o", "json")
        return cast("dict[str, Any]", json.loads(text))

    def wait_for(self, kind: str, name: str, state: str, namespace: str = "default") -> None:
        """Returns when `kubectl wait --for=state` is content, within ten minutes."""
        self.kubectl("wait", f"--for={state}", kind, name, "-n", namespace, "--timeout=600s")

    def ready(self, node: str) -> bool:
        """Whether the API server has the node as Ready."""
        conditions = self.get("node", node)["status"]["conditions"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def _must_be_ours(self, what: str) -> None:
        if not self.ours:
            pytest.skip(f"{what} only on a cluster of the tests' own, not on that of KUBECONFIG")

    def set_gpus(self, node: str, count: int) -> None:
        """Lets the node offer so many GPUs that are not there (0: none)."""
        self._must_be_ours("simulates GPUs")
        lifecycle.set_gpus(node, count)

    @contextmanager
    def node_down(self, node: str) -> Iterator[None]:
        """The node is without power inside, and Ready again afterwards."""
        self._must_be_ours("takes the power from a node")
        lifecycle.kill_node(node)
        try:
            yield
        finally:
            lifecycle.start_node(node)

    def kill_service(self, node: str, service: str) -> None:
        """End one of layout.NODE_SERVICES on a node, which starts it again."""
        self._must_be_ours("kills a service of a node")
        lifecycle.kill_service(node, service)

    def kill_pod(self, namespace: str, name: str) -> None:
        """End all processes of a pod, which hear nothing of it. Its node starts it again."""
        self._must_be_ours("kills the processes of a pod")
        lifecycle.kill_pod(self.get("pod", name, namespace)["metadata"]["uid"])

    def processes_of_pod(self, uid: str) -> list[int]:
        """Process ids of all that runs in a pod."""
        self._must_be_ours("counts the processes of a pod")
        return lifecycle.processes_of_pod(uid)

    def signing_key(self) -> Path:
        """The key by which the API server signs the tokens of service accounts."""
        self._must_be_ours("signs tokens as the API server does")
        return layout.PKI / "service-accounts.key"

    @contextmanager
    def api_server_down(self) -> Iterator[None]:
        """No API server answers inside; one does again afterwards."""
        self._must_be_ours("stops the API server")
        control_plane.stop(control_plane.API_SERVER)
        try:
            yield
        finally:
            control_plane.start(control_plane.API_SERVER)
            control_plane.wait_for_api()

    def claim(self, namespace: str, name: str, *, place: Path = layout.SHARED) -> None:
        """A claim that pods of every node may write to (a user's: of TAAS_TEST_STORAGE_CLASS).
        Its files are in a folder of `place`."""
        spec: dict[str, Any] = {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        }
        if self.ours:
            self._create_volume(place / f"{namespace}-{name}")
            # The empty class: only the volume made for it will do.
            spec |= {"storageClassName": "", "volumeName": f"{namespace}-{name}"}
        elif chosen := os.environ.get("TAAS_TEST_STORAGE_CLASS"):
            spec |= {"storageClassName": chosen}
        else:
            pytest.skip("set TAAS_TEST_STORAGE_CLASS to a class that offers ReadWriteMany")
        metadata = {"name": name, "namespace": namespace}
        kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        self.apply(kind | {"metadata": metadata, "spec": spec})
        if self.ours:
            bound = "jsonpath={.status.phase}=Bound"
            self.wait_for("persistentvolumeclaim", name, bound, namespace)

    def files(self, namespace: str, claim: str, folder: str) -> list[str]:
        """Paths of all files below a folder of a claim."""
        find = ["find", "-path", f"./{folder}/*", "!", "-type", "d", "-printf", "%P\\n"]
        return sorted(self.on_claim(namespace, claim, *find).split())

    def on_claim(self, namespace: str, claim: str, *command: str) -> str:
        """What a command prints in the root of a claim."""
        if self.ours:
            return run(*command, cwd=self.volume(namespace, claim))
        return self._in_pod(namespace, claim, command)

    def release_claim(self, namespace: str, name: str) -> None:
        """Let go of a claim whose namespace goes, with the folder behind it."""
        self.kubectl("delete", "pvc", name, "-n", namespace, "--wait=false")
        if self.ours:
            self.kubectl("delete", "pv", f"{namespace}-{name}", "--wait=false")
            shutil.rmtree(self.volume(namespace, name))

    def volume(self, namespace: str, name: str) -> Path:
        """The folder behind a claim."""
        self._must_be_ours("looks behind a claim")
        places = (place / f"{namespace}-{name}" for place in (layout.SHARED, layout.SMALL_DISK))
        return next(folder for folder in places if folder.exists())

    def _in_pod(self, namespace: str, claim: str, command: Sequence[str]) -> str:
        mount = {"name": "claim", "mountPath": "/claim"}
        container = {
            "name": "main",
            "image": self.images.trainer,
            "command": ["sh", "-c", 'cd /claim && exec "$@"', "sh", *command],
            "volumeMounts": [mount],
            "securityContext": SAFE,
        }
        spec = {
            "restartPolicy": "Never",
            "containers": [container],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
        }
        name = f"look-{uuid.uuid4().hex[:8]}"
        metadata = {"name": name, "namespace": namespace}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self.wait_for("pod", name, "jsonpath={.status.phase}=Succeeded", namespace)
        return self.kubectl("logs", name, "-n", namespace)

    def _create_volume(self, folder: Path) -> None:
        """A folder of this machine, which both nodes run on, is what a file server is elsewhere."""
        folder.mkdir()
        # Kubernetes does not give such a volume to the group of a pod.
        folder.chmod(0o777)
        spec = {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": str(folder)},
            "persistentVolumeReclaimPolicy": "Retain",
        }
        kind = {"apiVersion": "v1", "kind": "PersistentVolume"}
        self.apply(kind | {"metadata": {"name": folder.name}, "spec": spec})


def own() -> Cluster:
    """The running test cluster."""
    names = tuple(node.name for node in layout.NODES)
    return Cluster(True, layout.KUBECONFIG, lifecycle.images_there(), names)


def kubeconfig_of_user() -> Path | None:
    """KUBECONFIG, None if that is not set or leads to the cluster of the tests' own."""
    given = os.environ.get("KUBECONFIG")
    return Path(given) if given and Path(given) != layout.KUBECONFIG else None


def of_user(kubeconfig: Path) -> Cluster:
    """The cluster of KUBECONFIG, with images that the user has pushed to where it finds them."""
    missing = [variable for variable in _IMAGE_ENV.values() if not os.environ.get(variable)]
    if missing:
        pytest.exit(f"KUBECONFIG is set, so set {', '.join(missing)} to images it can pull", 4)
    images = Images(**{kind: os.environ[variable] for kind, variable in _IMAGE_ENV.items()})
    text = run("kubectl", f"--kubeconfig={kubeconfig}", "get", "nodes", "-o", "name")
    nodes = tuple(line.removeprefix("node/") for line in text.split())
    found = Cluster(False, kubeconfig, images, nodes)
    wait_until("two nodes of KUBECONFIG to be Ready", lambda: sum(map(found.ready, nodes)) > 1)
    return found
