"""The same small training as pods that somebody makes by hand, with TF_CONFIG and no service.

What an operator that only makes pods cannot beat: both are made at once, on nodes that are named,
with addresses that are known before, and all that they do is to train.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from controller.kubernetes import pod_documents
from controller.kubernetes.client import connected
from tests.cluster import layout
from tests.cluster.access import Cluster
from tests.cluster.commands import wait_until

# The network of tests/service/tasks/digits, and its first step.
_PROGRAM = """
import time
import keras
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
random = np.random.default_rng(5)
points = random.normal(size=(1000, 2)).astype("float32")
corners = ((points[:, 0] > 0) * 2 + (points[:, 1] > 0)).astype("int32")
losses = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
with strategy.scope():
    layers = [keras.layers.Dense(32, activation="relu"), keras.layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(4)])
    optimizer = keras.optimizers.Adam(0.005)
    optimizer.build(model.trainable_variables)

def batches(context):
    examples = tf.data.Dataset.from_tensor_slices((points, corners))
    examples = examples.shard(context.num_input_pipelines, context.input_pipeline_id)
    return examples.shuffle(1000, seed=7).repeat().batch(12)

def one(batch):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(losses(batch[1], model(batch[0], training=True))) / 24
    variables = model.trainable_variables
    optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
    return loss

@tf.function(autograph=False)
def step(batch):
    return strategy.reduce("SUM", strategy.run(one, args=(batch,)), axis=None)

iterator = iter(strategy.distribute_datasets_from_function(batches))
step(next(iterator)).numpy()
print("first step", time.time(), flush=True)
"""
_NAMESPACE = "default"
# Behind those that the kernel gives away.
_FIRST_PORT = 23_000
_PORTS = 1_000


def start(cluster: Cluster, number: int) -> float:
    """Return the seconds from the call that makes two pods to the first step of their training.

    `number` tells one start from the others, up to 999.
    """
    port = _FIRST_PORT + number % _PORTS
    workers = [f"{node.ip}:{port}" for node in layout.NODES]
    pods = [_pod(cluster, number, index, workers) for index in range(len(workers))]
    names = [pod["metadata"]["name"] for pod in pods]
    said: list[str] = []

    def trained() -> bool:
        log = cluster.kubectl("logs", "-n", _NAMESPACE, names[0])
        said[:] = [line for line in log.splitlines() if line.startswith("first step")]
        return bool(said)

    began = asyncio.run(_make(pods))
    try:
        cluster.wait_for("pod", names[0], "condition=Ready", _NAMESPACE)
        wait_until("the first step of pods made by hand", trained)
    finally:
        cluster.kubectl("delete", "pod", "-n", _NAMESPACE, *names, "--now")
    return float(said[0].split()[-1]) - began


async def _make(pods: Sequence[Mapping[str, Any]]) -> float:
    """Make all of them at once, and return when that began."""
    async with connected(layout.KUBECONFIG) as api:
        began = time.time()
        path = pod_documents.path(_NAMESPACE)
        await asyncio.gather(*(api.call("POST", path, body=pod) for pod in pods))
    return began


def _pod(cluster: Cluster, number: int, index: int, workers: list[str]) -> dict[str, Any]:
    config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
    container = {
        "name": "trainer",
        "image": cluster.images.trainer,
        "command": ["python3", "-c", _PROGRAM],
        "env": [{"name": "TF_CONFIG", "value": json.dumps(config)}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"by-hand-{number}-{index}"},
        "spec": {
            "nodeName": layout.NODES[index].name,
            # So that the addresses are known before there is a pod.
            "hostNetwork": True,
            "restartPolicy": "Never",
            "containers": [container],
        },
    }
