"""The test cluster is a Kubernetes that can be relied on: network, rights, placement, failures."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import Any

import pytest

from tests.cluster.access import SAFE, Cluster
from tests.cluster.commands import CommandFailed, wait_until
from tests.cluster.layout import GPU, NODE_SERVICES

Manifest = dict[str, Any]

# Trains four steps with the worker it is told of, and prints what both must agree on.
TWO_WORKERS = """
import json, os
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    weight = tf.Variable(1.0, aggregation=tf.VariableAggregation.SUM)
@tf.function
def step(value):
    strategy.run(lambda: weight.assign_sub(value * 0.01))
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
for _ in range(4):
    step(tf.constant(float(index + 1)))
print(f"replicas={strategy.num_replicas_in_sync} weight={weight.numpy():.2f}", flush=True)
os._exit(0)
"""


def pod(name: str, image: str, *, args: list[str], **spec: object) -> Manifest:
    """A pod that may run in a restricted namespace."""
    container = {"name": "main", "image": image, "args": args, "securityContext": SAFE}
    container["imagePullPolicy"] = "IfNotPresent"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "test"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


@pytest.fixture
def servers(cluster: Cluster, namespace: str) -> list[str]:
    """A pod that serves on each of two nodes, and a Service over both; the pods' addresses."""
    for number, node in enumerate(cluster.nodes[:2], 1):
        serving = ["serve", ":7000"]
        manifest = pod(f"server-{number}", cluster.images.probe, args=serving, nodeName=node)
        manifest["metadata"]["namespace"] = namespace
        cluster.apply(manifest)
    port = {"port": 80, "targetPort": 7000}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "servers", "namespace": namespace},
            "spec": {"selector": {"app": "test"}, "ports": [port]},
        }
    )
    names = ("server-1", "server-2")
    for name in names:
        cluster.wait_for("pod", name, "condition=Ready", namespace)
    return [cluster.get("pod", name, namespace)["status"]["podIP"] for name in names]


def dial(cluster: Cluster, namespace: str, name: str, address: str) -> str:
    """What the pod `name` hears at the address, or nothing."""
    try:
        words = ["exec", name, "-n", namespace, "--", "/probe", "dial", address]
        return cluster.kubectl(*words).strip()
    except CommandFailed:
        return ""


def test_two_nodes_are_ready(cluster: Cluster) -> None:
    assert sum(cluster.ready(node) for node in cluster.nodes) >= 2


def test_pods_reach_each_other_across_nodes(
    cluster: Cluster, namespace: str, servers: list[str]
) -> None:
    assert dial(cluster, namespace, "server-1", f"{servers[1]}:7000") == "server-2"
    assert dial(cluster, namespace, "server-2", f"{servers[0]}:7000") == "server-1"


@pytest.mark.usefixtures("servers")
def test_service_spreads_over_nodes_by_address_and_by_name(
    cluster: Cluster, namespace: str
) -> None:
    address = cluster.get("service", "servers", namespace)["spec"]["clusterIP"]
    for target in (f"{address}:80", f"servers.{namespace}.svc:80"):
        heard: set[str] = set()

        def both(target: str = target, heard: set[str] = heard) -> bool:
            heard.add(dial(cluster, namespace, "server-1", target))
            return heard >= {"server-1", "server-2"}

        wait_until(f"both pods to answer at {target}", both)


@pytest.mark.usefixtures("servers")
def test_logs_and_exec(cluster: Cluster, namespace: str) -> None:
    assert cluster.kubectl("logs", "server-2", "-n", namespace) == "serving :7000 as server-2\n"
    said = cluster.kubectl("exec", "server-2", "-n", namespace, "--", "/probe", "echo", "a", "b")
    assert said == "a b\n"


def test_service_account_may_do_nothing_by_itself(cluster: Cluster, namespace: str) -> None:
    user = f"--as=system:serviceaccount:{namespace}:default"
    with pytest.raises(CommandFailed, match=r"pods is forbidden.*cannot list"):
        cluster.kubectl("get", "pods", "-n", namespace, user)


def test_restricted_namespace_refuses_root(cluster: Cluster, namespace: str) -> None:
    manifest = pod("root", cluster.images.probe, args=[])
    manifest["metadata"]["namespace"] = namespace
    del manifest["spec"]["containers"][0]["securityContext"]
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        cluster.apply(manifest)


@pytest.mark.usefixtures("gpus")
def test_gpus_limit_placement(cluster: Cluster, namespace: str) -> None:
    for number in (1, 2, 3):
        manifest = pod(f"gpu-{number}", cluster.images.probe, args=[])
        manifest["metadata"]["namespace"] = namespace
        manifest["spec"]["containers"][0]["resources"] = {"limits": {GPU: "1"}}
        cluster.apply(manifest)
        if number < 3:
            cluster.wait_for("pod", f"gpu-{number}", "condition=Ready", namespace)
    placed = {cluster.get("pod", f"gpu-{n}", namespace)["spec"]["nodeName"] for n in (1, 2)}
    assert placed == set(cluster.nodes)
    cluster.wait_for("pod", "gpu-3", "condition=PodScheduled=false", namespace)
    (condition,) = cluster.get("pod", "gpu-3", namespace)["status"]["conditions"]
    assert condition["reason"] == "Unschedulable"
    assert f"Insufficient {GPU}" in condition["message"]
    cluster.set_gpus(cluster.nodes[0], 2)
    cluster.wait_for("pod", "gpu-3", "condition=Ready", namespace)


def test_pods_outlive_the_api_server(cluster: Cluster, namespace: str, servers: list[str]) -> None:
    with cluster.api_server_down(), pytest.raises(CommandFailed):
        cluster.kubectl("get", "nodes")
    wait_until(
        "exec to work again",
        lambda: dial(cluster, namespace, "server-1", f"{servers[1]}:7000") == "server-2",
    )
    for name in ("server-1", "server-2"):
        (status,) = cluster.get("pod", name, namespace)["status"]["containerStatuses"]
        assert status["restartCount"] == 0


def test_node_is_lost_and_returns(cluster: Cluster, namespace: str, servers: list[str]) -> None:
    lost = cluster.nodes[1]
    cluster.set_gpus(lost, 1)
    with cluster.node_down(lost):
        assert dial(cluster, namespace, "server-1", f"{servers[1]}:7000") == ""
        cluster.wait_for("node", lost, "condition=Ready=Unknown")
        cluster.wait_for("pod", "server-2", "condition=Ready=False", namespace)
    cluster.wait_for("pod", "server-2", "condition=Ready", namespace)
    address = cluster.get("pod", "server-2", namespace)["status"]["podIP"]
    wait_until(
        "the pod to answer again",
        lambda: dial(cluster, namespace, "server-1", f"{address}:7000") == "server-2",
    )
    assert cluster.get("node", lost)["status"]["allocatable"][GPU] == "1"


@pytest.mark.parametrize("service", NODE_SERVICES)
def test_pods_outlive_a_service_of_their_node(
    cluster: Cluster, namespace: str, servers: list[str], service: str
) -> None:
    cluster.kill_service(cluster.nodes[1], service)
    manifest = pod("late", cluster.images.probe, args=[], nodeName=cluster.nodes[1])
    manifest["metadata"]["namespace"] = namespace
    cluster.apply(manifest)
    cluster.wait_for("pod", "late", "condition=Ready", namespace)
    assert dial(cluster, namespace, "server-1", f"{servers[1]}:7000") == "server-2"
    (status,) = cluster.get("pod", "server-2", namespace)["status"]["containerStatuses"]
    assert status["restartCount"] == 0


def test_claim_is_shared_by_nodes(cluster: Cluster, namespace: str) -> None:
    cluster.claim(namespace, "storage")
    volume = {"name": "storage", "persistentVolumeClaim": {"claimName": "storage"}}
    programs = ("open('/storage/word', 'w').write('hello')", "print(open('/storage/word').read())")
    for number, (node, program) in enumerate(zip(cluster.nodes, programs, strict=False), 1):
        image, name = cluster.images.trainer, f"user-{number}"
        once = {"nodeName": node, "volumes": [volume], "restartPolicy": "Never"}
        manifest = pod(name, image, args=["-c", program], **once)
        manifest["metadata"]["namespace"] = namespace
        (container,) = manifest["spec"]["containers"]
        container["command"] = ["python3"]
        container["volumeMounts"] = [{"name": "storage", "mountPath": "/storage"}]
        cluster.apply(manifest)
        cluster.wait_for("pod", name, "jsonpath={.status.phase}=Succeeded", namespace)
    assert cluster.kubectl("logs", "user-2", "-n", namespace) == "hello\n"


def test_two_workers_train_across_nodes(cluster: Cluster, namespace: str) -> None:
    script = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"train.py": TWO_WORKERS}}
    cluster.apply(script | {"metadata": {"name": "script", "namespace": namespace}})
    names = ["worker-0", "worker-1"]
    for name, node in zip(names, cluster.nodes, strict=False):
        idle = ["-c", "import signal; signal.sigwait({signal.SIGTERM})"]
        volume = {"name": "script", "configMap": {"name": "script"}}
        scratch = {"name": "tmp", "emptyDir": {}}
        manifest = pod(
            name, cluster.images.trainer, args=idle, nodeName=node, volumes=[volume, scratch]
        )
        manifest["metadata"]["namespace"] = namespace
        (container,) = manifest["spec"]["containers"]
        container["command"] = ["python3"]
        container["volumeMounts"] = [
            {"name": "script", "mountPath": "/script"},
            {"name": "tmp", "mountPath": "/tmp"},
        ]
        cluster.apply(manifest)
    for name in names:
        cluster.wait_for("pod", name, "condition=Ready", namespace)
    workers = [f"{cluster.get('pod', n, namespace)['status']['podIP']}:7001" for n in names]
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(_start_worker(cluster, namespace, name, index, workers))
            for index, name in enumerate(names)
        ]
        ended = [process.communicate(timeout=180) for process in running]
    for said, complaint in ended:
        # Four steps of (1 + 2) * 0.01 from 1.
        assert said.strip() == "replicas=2 weight=0.88", complaint


def _start_worker(
    cluster: Cluster, namespace: str, name: str, index: int, workers: list[str]
) -> subprocess.Popen[str]:
    task = {"type": "worker", "index": index}
    config = json.dumps({"cluster": {"worker": workers}, "task": task})
    program = ["env", f"TF_CONFIG={config}", "python3", "/script/train.py"]
    command = cluster.command("exec", name, "-n", namespace, "--", *program)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
