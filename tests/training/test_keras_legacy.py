"""Programs for tf_keras, the Keras before 3, train in a group as they always did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import groups, packages
from tests.training.keras_group import TIMEOUT_S

pytestmark = pytest.mark.training

# The release that belongs to the installed TensorFlow.
LEGACY = "tf-keras==2.21.0"
PROGRAM = """
import json, os
from trainer import keras_compat
keras_compat.install()
import numpy as np, tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
assert tf.keras.layers.Dense.__module__.startswith("tf_keras."), tf.keras.layers.Dense.__module__
tf.keras.utils.set_random_seed(1)
with strategy.scope():
    model = tf.keras.Sequential([
        tf.keras.layers.Dense(8, activation="relu", input_shape=(6,)), tf.keras.layers.Dense(3)])
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, ["accuracy"])
labels = np.arange(48) % 3
x = np.random.normal(size=(48, 6)) + 2 * labels[:, None]
history = model.fit(x, labels, batch_size=16, epochs=8, verbose=0).history
print(json.dumps(history), flush=True)
os._exit(0)
"""


def test_two_workers_train_with_the_legacy_keras() -> None:
    path = os.pathsep.join([str(packages.folder_of(LEGACY)), str(Path(__file__).parents[2])])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in groups.free_ports(2)]}
    processes = []
    for position in range(2):
        task = {"type": "worker", "index": position}
        env = {
            "PYTHONPATH": path,
            "TF_USE_LEGACY_KERAS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CONFIG": json.dumps({"cluster": cluster, "task": task}),
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env={**os.environ, **env},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    ends = [process.communicate(timeout=TIMEOUT_S) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert not any("mended" in err for _, err in ends)
    histories = [json.loads(out.splitlines()[-1]) for out, _ in ends]
    assert histories[0] == histories[1]
    assert histories[0]["loss"][-1] < histories[0]["loss"][0]
