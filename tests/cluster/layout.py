"""Where the test cluster keeps things and what its parts are called. Touches nothing.

One machine holds one test cluster. Everything of it is under STATE, in the cgroup CGROUP, or
behind the network interface LINK, so that taking it down needs no memory of how it came up.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BINARIES = Path(__file__).resolve().parent / "binaries"

# Gone after `down`.
STATE = Path(os.environ.get("TAAS_TEST_CLUSTER_STATE", "/var/lib/taas-test-cluster"))
# Stays: programs and images, which take minutes to build.
CACHE = Path(os.environ.get("TAAS_TEST_CLUSTER_CACHE", Path.home() / ".cache" / "taas"))

CGROUP = "taas-test-cluster"
LINK = "taas0"

KUBERNETES = "v1.34.4"
# Processes and threads of a pod.
POD_PIDS = 1024
GPU = "nvidia.com/gpu"

# The host's end of the nodes' network; the control plane listens here, and on no other address.
HOST_IP = "172.31.249.1"
NODE_NETWORK = "172.31.249.0/24"
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
# The first address of SERVICE_NETWORK, which the API server takes for itself.
API_SERVICE_IP = "10.96.0.1"
CLUSTER_DOMAIN = "cluster.local"
API_URL = f"https://{HOST_IP}:6443"
# Loopback, so that no pod can reach it: etcd asks nobody for a password.
ETCD_CLIENT = "http://127.0.0.1:23790"
ETCD_PEER = "http://127.0.0.1:23800"

# Where images are pushed while they are built. Always the same port, because buildah
# remembers what a registry has by its address.
REGISTRY = ("127.0.0.1", 23850)

PKI = STATE / "pki"
LOGS = STATE / "logs"
CONFIG = STATE / "config"
# A folder that pods of both nodes may mount as hostPath: the shared volume of the tests.
SHARED = STATE / "shared"
# The same on a disk of its own, which can be filled.
SMALL_DISK = STATE / "small-disk"
SMALL_DISK_MB = 256
SWITCH = STATE / "switch"
KUBECONFIG = CONFIG / "admin.kubeconfig"


@dataclass(frozen=True, slots=True)
class Node:
    """One simulated machine: its own network, mounts and process numbers on this one's kernel."""

    index: int

    @property
    def name(self) -> str:
        return f"node-{self.index}"

    @property
    def ip(self) -> str:
        return f"172.31.249.{10 + self.index}"

    @property
    def pod_network(self) -> str:
        return f"10.244.{self.index}.0/24"

    @property
    def folder(self) -> Path:
        return STATE / "nodes" / self.name

    @property
    def network(self) -> Path:
        """The file that holds the node's network namespace while the node is down."""
        return self.folder / "network"

    @property
    def containerd(self) -> Path:
        """The socket of the node's containerd, as seen from outside of the node."""
        return self.folder / "run" / "containerd" / "containerd.sock"


NODES = (Node(1), Node(2))
# What process 1 of a node runs.
NODE_SERVICES = ("containerd", "kubelet", "kube-proxy")


def node(name: str) -> Node:
    """The node called so. Raises LookupError."""
    for candidate in NODES:
        if candidate.name == name:
            return candidate
    raise LookupError(f"no node {name!r}; there are {', '.join(n.name for n in NODES)}")


def log(node: Node, service: str = "") -> Path:
    """What a service of the node has said; without one, what its process 1 has said of them."""
    return LOGS / f"{node.name}{service and '-'}{service}.log"
