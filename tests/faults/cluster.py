"""Faults on the test cluster, from outside of its containers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from protos.taas.v1.job_pb2 import TrainingJob
from tests.cluster import layout, lifecycle, nodes
from tests.cluster.commands import run
from tests.cluster.installed import NAMESPACE
from tests.cluster.team import Team
from tests.faults import memory
from tests.faults.cells import KUBERNETES, Cell, Fault
from tests.faults.site import Struck, Target, signalled
from tests.faults.workers import Process, until
from tests.service.small_disk import fill
from trainer.storage import JobPaths

# The node that loses its power; the way from this machine to the service leads through the other.
_LOST_NODE = layout.NODES[1]
# Nothing reaches the pod and nothing leaves it; its own processes still reach each other.
_CUT_OFF = """
iptables -w -A INPUT -i lo -j ACCEPT && iptables -w -A OUTPUT -o lo -j ACCEPT &&
iptables -w -P INPUT DROP && iptables -w -P OUTPUT DROP
"""


@dataclass
class ClusterSite:
    """The service on the test cluster. small: a team whose claim is on a small disk."""

    team: Team
    small: bool = False
    backend: str = KUBERNETES
    # Name and uid of the pod that leads, and the one whose processes were killed.
    _leader: tuple[str, str] = ("", "")
    _killed: str = ""

    def __post_init__(self) -> None:
        """Its client is the team's."""
        self.client = self.team.client

    def ready(self, fault: Fault) -> None:
        """Return when the service is whole, and led from where the fault does not strike."""
        assert self.small or fault is not Fault.DISK_FULL, "this needs a disk of its own"
        self.team.service.rolled_out()
        if fault is Fault.NODE_LOST:
            until(self._led_from_elsewhere, "a leader on the other node")
        if fault is Fault.CONTROLLER_KILLED:
            name, _ = self.team.service.leader()
            pod = self.team.cluster.get("pod", name, NAMESPACE)
            self._leader = (name, pod["metadata"]["uid"])

    def _led_from_elsewhere(self) -> bool:
        service = self.team.service
        name, container = service.leader()
        if self.team.cluster.get("pod", name, NAMESPACE)["spec"]["nodeName"] != _LOST_NODE.name:
            return True
        service.kubectl("delete", "pod", name)
        service.leader(after=container)
        service.rolled_out()
        return False

    def folder(self, job: TrainingJob) -> Path:
        """A job's part of the claim."""
        root = self.team.cluster.volume(self.team.namespace, "taas-storage")
        namespace, name = job.name.split("/")[1::2]
        return JobPaths(root, namespace, name, job.uid).folder

    def victim(self, cell: Cell, trainers: Mapping[int, Process]) -> int:
        """The worker whose work the moment is, or the one on the node that is lost."""
        if cell.fault is not Fault.NODE_LOST:
            return cell.victim
        (lost,) = (i for i, p in trainers.items() if _LOST_NODE.name in str(memory.group_of(p)))
        return lost

    def strike(self, fault: Fault, target: Target) -> Struck:
        """Make a fault."""
        pod = f"{target.job.rpartition('/')[2]}-{target.victim}"
        struck = Struck()
        if signalled(fault, target):
            return struck
        if fault is Fault.TRAINER_OUT_OF_MEMORY:
            group = memory.group_of(target.trainer)
            memory.starve(target.trainer, group, target.trainers.values())
            return Struck()
        if fault is Fault.POD_DELETED:
            self.team.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")
        elif fault is Fault.POD_EVICTED:
            self._evict(pod)
        elif fault is Fault.NODE_LOST:
            lifecycle.kill_node(_LOST_NODE.name)
        elif fault is Fault.CUT_OFF:
            run("nsenter", f"--net=/proc/{target.agent.pid}/ns/net", "sh", "-c", _CUT_OFF)
        elif fault is Fault.CONTROLLER_KILLED:
            self._killed, uid = self._leader
            lifecycle.kill_pod(uid)
        elif fault is Fault.DISK_FULL:
            root = self.team.cluster.volume(self.team.namespace, "taas-storage")
            return Struck(mend=fill(root).unlink)
        return struck

    def _evict(self, pod: str) -> None:
        """As `kubectl drain` does it."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.team.namespace},
        }
        path = f"/api/v1/namespaces/{self.team.namespace}/pods/{pod}/eviction"
        self.team.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))

    def mended(self) -> None:
        """Boot the node, if it was lost. A controller that was killed gets a pod anew: the same one
        would be started again later each time."""
        if self._killed:
            force = ("--force", "--grace-period=0", "--wait=false", "--ignore-not-found")
            self.team.service.kubectl("delete", "pod", self._killed, *force)
            self._killed = ""
        if not nodes.running(_LOST_NODE):
            lifecycle.start_node(_LOST_NODE.name)

    def left(self, job: TrainingJob) -> list[object]:
        """Pods that bear the job's name, and files of it."""
        label = f"taas.dev/job={job.name.rpartition('/')[2]}"
        pods = self.team.kubectl("get", "pods", "-l", label, "-o", "name").split()
        return [*pods, *self.folder(job).parent.glob("*")]
