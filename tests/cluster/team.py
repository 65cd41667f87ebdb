"""A namespace whose people use the service, by gRPC and by kubectl."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import taas
from protos.taas.v1.job_pb2 import Phase, Source, TrainingJob
from tests.cluster.access import Cluster
from tests.cluster.commands import CommandFailed, run, wait_until
from tests.cluster.installed import Service
from tests.cluster.layout import PROJECT, SHARED
from tests.service.world import Story

# A small training: seconds of steps, or as many as one asks for.
DIGITS = PROJECT / "tests" / "service" / "tasks" / "digits"
MNIST = PROJECT / "examples" / "mnist_lenet5"
# Only keeps a broken test from hanging.
BOUND_S = 600.0

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Team:
    """A namespace with a claim and the policies of deploy/tenant."""

    service: Service
    namespace: str
    client: taas.Client

    @property
    def cluster(self) -> Cluster:
        """Where all of this is."""
        return self.service.cluster

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl says in the namespace. Raises CommandFailed with its complaint."""
        return self.cluster.kubectl("-n", self.namespace, *words, stdin=stdin)

    def taas(self, *words: str) -> str:
        """What the command line prints. Raises CommandFailed with its complaint."""
        command, *rest = words
        call = [sys.executable, "-m", "taas", command, "-n", self.namespace, *rest]
        return run(*call, env={**os.environ, "TAAS_TARGET": self.service.target})

    def apply(self, manifest: Manifest) -> str:
        """What `kubectl apply -f` says of a manifest. Raises CommandFailed."""
        return self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def manifest(self, name: str, *, steps: int = 200, **spec: Any) -> Manifest:
        """A job of the small training, whose source is on the claim."""
        source = self.client.upload(DIGITS, namespace=self.namespace)
        return manifest(name, source, steps=steps, **spec)

    def job(self, name: str) -> Manifest:
        """The job as Kubernetes has it."""
        return self.cluster.get("tj", name, self.namespace)

    def pods(self, job: str) -> list[Manifest]:
        """The pods of a job's workers, by index."""
        text = self.kubectl("get", "pods", "-l", f"taas.dev/job={job}", "-o", "json")
        found = json.loads(text)["items"]
        return sorted(found, key=lambda pod: int(pod["metadata"]["labels"]["taas.dev/worker"]))

    def wait(self, name: str, condition: str, timeout_s: float = BOUND_S) -> None:
        """Returns when `kubectl wait --for=CONDITION` is content with the job."""
        self.kubectl("wait", f"--for={condition}", f"tj/{name}", f"--timeout={timeout_s:.0f}s")

    def until(self, name: str, what: str, holds: Any, timeout_s: float = BOUND_S) -> TrainingJob:
        """The job, once `holds(job)` is true."""
        found: list[TrainingJob] = []

        def look() -> bool:
            found[:] = [self.client.get(name)]
            return bool(holds(found[0]))

        try:
            wait_until(f"{name}: {what}", look, timeout_s=timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {found}") from error
        return found[0]

    def until_steps(self, name: str, beyond: int = 0) -> int:
        """The step that the job has reached, once that is beyond a number."""
        job = self.until(name, f"step {beyond}", lambda j: j.status.progress.step > beyond)
        return job.status.progress.step

    def deleted(self, name: str) -> None:
        """Returns when the job is gone for good."""
        self.kubectl("wait", "--for=delete", f"tj/{name}", f"--timeout={BOUND_S:.0f}s")

    def until_gone(self, *kinds_and_labels: str) -> None:
        """Returns when nothing is left that `kubectl get` with these words would show."""
        wait_until(
            f"{kinds_and_labels} to go",
            lambda: not self.kubectl("get", *kinds_and_labels, "-o", "name"),
            timeout_s=BOUND_S,
        )

    def in_pod(self, pod: str, program: str, *arguments: str) -> str:
        """What a Python program prints in the container of a worker."""
        python = ["python3", "-c", program, *arguments]
        return self.kubectl("exec", pod, "-c", "worker", "--", *python)


def manifest(name: str, source: Source, *, steps: int = 200, **spec: Any) -> Manifest:
    """A job of two workers of the small training; `spec` goes over it."""
    wanted = {
        "task": {"module": "task.py"},
        "source": {"digest": source.digest, "sizeBytes": source.size_bytes},
        "workers": 2,
        "parameters": {"steps": str(steps)},
    }
    return {
        "apiVersion": "taas.dev/v1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": wanted | spec,
    }


@dataclass(slots=True)
class Watching:
    """Someone who follows a job over gRPC while other things happen."""

    story: Story = field(default_factory=Story)
    lost: int = 0
    error: BaseException | None = None
    thread: threading.Thread | None = None

    def join(self, timeout_s: float = BOUND_S) -> Story:
        """All that was told, once the job is final. Raises what the watch has raised."""
        assert self.thread is not None
        self.thread.join(timeout_s)
        assert not self.thread.is_alive(), "the watch does not end"
        if self.error is not None:
            raise self.error
        self.story.check()
        return self.story


def watching(team: Team, name: str) -> Watching:
    """Begin to follow a job from its beginning, over losses of the service."""
    watch = Watching()

    def note_loss(_: object) -> None:
        watch.lost += 1

    def follow() -> None:
        try:
            with team.service.client(team.namespace) as client:
                for event in client.watch(name, reconnect_for_s=BOUND_S, on_lost=note_loss):
                    watch.story.events.append(event)
        except BaseException as error:
            watch.error = error

    watch.thread = threading.Thread(target=follow, daemon=True)
    watch.thread.start()
    return watch


def phase_is(phase: str) -> Any:
    """A condition for `Team.until`: the job is in that phase."""
    number = Phase.Value(f"PHASE_{phase}")
    return lambda job: job.status.phase == number


@contextlib.contextmanager
def new_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that enforces the restricted standard; deleted with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )
    # Pods are refused until it is there.
    cluster.wait_for("serviceaccount", "default", "create", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@contextlib.contextmanager
def team_in(service: Service, namespace: str, *, place: Path = SHARED) -> Iterator[Team]:
    """A team in a namespace that is there; afterwards its jobs are gone, and their files."""
    cluster = service.cluster
    cluster.claim(namespace, "taas-storage", place=place)
    policies = PROJECT / "deploy" / "tenant" / "network-policies.yaml"
    cluster.kubectl("apply", "-n", namespace, "-f", str(policies))
    with service.client(namespace) as client:
        team = Team(service, namespace, client)
        yield team
        team.kubectl("delete", "tj", "--all", f"--timeout={BOUND_S:.0f}s")
        left = cluster.files(namespace, "taas-storage", "jobs")
        assert not left, f"files of deleted jobs are left: {left[:10]}"
    cluster.release_claim(namespace, "taas-storage")


@contextlib.contextmanager
def table(team: Team) -> Iterator[list[str]]:
    """The lines that `kubectl get tj -w` prints, as they come."""
    command = team.cluster.command("-n", team.namespace, "get", "tj", "-w")
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            yield lines
        finally:
            process.kill()
            reader.join(BOUND_S)


def refusal(call: Any) -> str:
    """What a command that must fail complains of."""
    try:
        said = call()
    except CommandFailed as error:
        return str(error)
    raise AssertionError(f"it was let through: {said}")
