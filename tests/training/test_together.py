"""What members begin with is the same on all of them, and is the chief's."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training import groups, programs
from trainer import strategy, together
from trainer.contract import Assignment, ExitCode
from trainer.snapshot import components

pytestmark = pytest.mark.training

# Weights from a source that no seed reaches, and steps that change nothing.
UNSEEDED = """
import os
import keras
import numpy as np
from trainer import data
from trainer.task import Task

def first(shape, dtype=None):
    return np.full(shape, int.from_bytes(os.urandom(2), "big") / 65536 + 1, "float32")

def model():
    one = keras.layers.Dense(1, use_bias=False, kernel_initializer=first)
    return keras.Sequential([keras.Input((1,)), one])

def task():
    return Task(
        model=model, loss="mean_squared_error", optimizer=keras.optimizers.SGD(0.0),
        train=data.arrays(np.ones((8, 1), "float32"), np.zeros((8, 1), "float32")),
        global_batch=8, steps=2,
    )
"""


def _share(assignment: Assignment, most_bytes: int) -> None:
    together._MOST_BYTES = most_bytes
    joined = strategy.join(assignment)
    position = assignment.position
    drawn = np.random.default_rng(position)
    firsts = [
        drawn.normal(size=(40, 5)).astype("float32"),
        np.array([-0.0, np.nan, np.inf, position]),
        np.int64(-7 - position),
        np.array([position == 0, True, False]),
        drawn.integers(0, 1 << 32, 3).astype("uint32"),
        np.zeros((0, 4), "float32"),
        drawn.normal(size=11).astype("float16"),
    ]
    with joined.scope():
        variables = [tf.Variable(first) for first in firsts]
        variables.append(tf.Variable(tf.cast(drawn.normal(size=9), tf.bfloat16)))
        seeds = keras.random.SeedGenerator(position)
        variables.append(seeds.state.value)
    # Nobody has asked another for a first value.
    assert variables[2].numpy() == -7 - position
    together.share(joined, variables, is_chief=position == 0)
    digest = hashlib.sha256()
    for variable in variables:
        for component in components(variable):
            digest.update(component.numpy().tobytes())
    assert variables[2].numpy() == -7
    print("bits", digest.hexdigest(), flush=True)  # noqa: T201
    strategy.part(len(assignment.cluster))
    os._exit(0)


@pytest.mark.parametrize(
    "most_bytes", [pytest.param(1 << 20, id="at once"), pytest.param(50, id="in parts")]
)
def test_variables_of_any_type_take_the_chiefs_bits(tmp_path: Path, most_bytes: int) -> None:
    printed = groups.together(tmp_path, 3, _share, most_bytes)
    bits = [line for line in printed.splitlines() if line.startswith("bits ")]
    assert len(bits) == 3
    assert len(set(bits)) == 1


def test_a_model_that_is_drawn_without_a_seed_is_the_same_on_all_workers(tmp_path: Path) -> None:
    job = groups.Job(tmp_path, programs.write(tmp_path / "source", UNSEEDED))
    group = job.start(2)
    assert group.wait() == [ExitCode.DONE] * 2, group.logs()
    newest = sorted(job.paths.checkpoints.glob("step-*"))[-1]
    reader = tf.train.load_checkpoint(str(newest / "variables"))
    (name,) = [n for n in reader.get_variable_to_shape_map() if n.startswith("model/")]
    # Each worker has half of the examples: had they different weights, this were their mean.
    assert job.losses()[2] == pytest.approx(reader.get_tensor(name).item() ** 2, rel=1e-6)
