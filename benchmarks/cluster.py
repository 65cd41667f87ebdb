"""How long a job takes to start on a real Kubernetes, and how many jobs are taken in at once.

    python -m benchmarks.cluster [--starts 9] [--jobs 200]

Runs on the test cluster of tests/cluster, which must be up. What is measured:

- From the call that submits a small training of two workers to its first step, image present,
  the namespace's storage gateway running; between them the moments that the job's own history
  tells of. In turns with the same training as pods that are made by hand.
- From the first of many calls that create jobs of two workers until all of their pods exist. No
  node takes those pods, so that what is measured is the service and the API server, not kubelets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from google.protobuf import json_format

from benchmarks import by_hand, machine, record
from benchmarks.rates import Spread
from benchmarks.sites import on_own_cluster
from benchmarks.start import WORKERS, medians, moments, since
from controller.kubernetes import pod_documents
from controller.kubernetes.client import connected
from protos.taas.v1.job_pb2 import TrainingJobSpec
from tests.cluster import cgroups, layout, lifecycle
from tests.cluster.commands import wait_until
from tests.cluster.installed import NAMESPACE, Service
from tests.cluster.team import DIGITS, Team, manifest, new_namespace, team_in

# Who submits many jobs: so many calls at a time.
_CALLERS = 16
_BOUND_S = 300.0
_BY_HAND = "first step of pods made by hand"
_NOWHERE = {"nodeSelector": {"taas.dev/no-such-node": "true"}}


@dataclass
class Pods:
    """When the pods of a namespace's workers were first seen, and first seen running; by name."""

    created: dict[str, float] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    following: threading.Event = field(default_factory=threading.Event)

    async def follow(self, namespace: str) -> None:
        """Take in each change as it comes."""
        path = pod_documents.path(namespace)
        wanted = {"labelSelector": "taas.dev/job"}
        async with connected(layout.KUBECONFIG) as api:
            listed = await api.call("GET", path, query=wanted)
            wanted["resourceVersion"] = listed["metadata"]["resourceVersion"]
            self.following.set()
            async for event in api.watch(path, wanted, timeout_s=round(_BOUND_S)):
                pod = event["object"]
                name = pod["metadata"]["name"]
                self.created.setdefault(name, time.time())
                if pod["status"]["phase"] == "Running":
                    self.running.setdefault(name, time.time())


@contextmanager
def watched(team: Team) -> Iterator[Pods]:
    """The pods of workers of a namespace, from now on."""
    pods = Pods()
    loop = asyncio.new_event_loop()
    task = loop.create_task(pods.follow(team.namespace))

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert pods.following.wait(_BOUND_S)
        yield pods
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def start(team: Team, name: str) -> dict[str, float]:
    """Seconds from the call to each moment of a job's start."""
    with watched(team) as pods:
        began = time.time()
        found = moments(team.client, name)
    team.client.delete(name)
    team.deleted(name)
    found["pods exist"] = max(pods.created.values())
    found["pods run"] = max(pods.running.values())
    return since(began, found)


def processes(service: Service) -> Mapping[str, psutil.Process]:
    """The processes that take jobs in, by name."""
    found = {}
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        (pid,) = cgroups.members(f"control-plane/{name}")
        found[name] = psutil.Process(pid)
    uid = service.cluster.get("pod", service.leader()[0], NAMESPACE)["metadata"]["uid"]
    (found["controller"],) = (
        process
        for process in map(psutil.Process, lifecycle.processes_of_pod(uid))
        if "controller" in process.cmdline()
    )
    return found


def cpu(of: Mapping[str, psutil.Process]) -> dict[str, float]:
    """Seconds of CPU that each has used."""
    return {name: sum(process.cpu_times()[:2]) for name, process in of.items()}


def take_in(team: Team, jobs: int) -> dict[str, Any]:
    """Create so many jobs at once and wait for their pods."""
    source = team.client.upload(DIGITS, namespace=team.namespace)
    raw = manifest("x", source, workers=WORKERS, pod=_NOWHERE)["spec"]
    spec = json_format.ParseDict(raw, TrainingJobSpec())
    of = processes(team.service)
    with watched(team) as pods, ThreadPoolExecutor(_CALLERS) as callers:
        before, began = cpu(of), time.time()
        made = [callers.submit(team.client.create, f"job-{n}", spec) for n in range(jobs)]
        for each in made:
            each.result()
        stored = time.time() - began
        wait_until("all pods", lambda: len(pods.created) == jobs * WORKERS, timeout_s=_BOUND_S)
        used = {name: seconds - before[name] for name, seconds in cpu(of).items()}
    seen = sorted(at - began for at in pods.created.values())
    team.kubectl("delete", "tj", "--all", f"--timeout={_BOUND_S:.0f}s")
    return {
        "jobs": jobs,
        "first pod": seen[0],
        "all jobs stored": stored,
        "half of the pods": statistics.median(seen),
        "all pods": seen[-1],
        "cpu_s": used,
    }


@contextmanager
def a_team(folder: Path) -> Iterator[Team]:
    """A team on the test cluster, with the service of the present code."""
    with (
        on_own_cluster(folder) as service,
        new_namespace(service.cluster) as namespace,
        team_in(service, namespace) as team,
    ):
        yield team


def main() -> int:
    """Measure both, print them, and keep them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster")
    parser.add_argument("--starts", type=int, default=9, help="starts to take the median of (9)")
    parser.add_argument("--jobs", type=int, default=200, help="jobs created at once (200)")
    arguments = parser.parse_args()
    about = machine.describe()
    with tempfile.TemporaryDirectory(prefix="taas-bench-") as folder, a_team(Path(folder)) as team:
        start(team, "warm-up")
        by_hand.start(team.service.cluster, 0)
        starts = []
        for number in range(arguments.starts):
            theirs = by_hand.start(team.service.cluster, number + 1)
            starts.append(start(team, f"start-{number}") | {_BY_HAND: theirs})
        taken = take_in(team, arguments.jobs)
    typical = medians(starts)
    for what, seconds in typical.items():
        print(f"{seconds:6.2f} s  {what}")
    ratio = Spread.of(each["first step"] / each[_BY_HAND] for each in starts)
    print(f"first step, service / by hand: {ratio.text(2)}")
    print(json.dumps(taken, indent=1))
    figures = {
        "medians": typical,
        "service_to_by_hand": asdict(ratio),
        "starts": starts,
        "taken_in": taken,
    }
    about["kubernetes"] = layout.KUBERNETES
    path = record.keep(record.dated("cluster"), vars(arguments), about, figures)
    print(path.relative_to(layout.PROJECT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
