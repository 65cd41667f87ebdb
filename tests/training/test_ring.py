"""Reductions of MultiWorkerMirroredStrategy over the ring, beside TensorFlow's own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.training import groups
from trainer import contract, strategy
from trainer.contract import Assignment
from trainer.ring import group, meeting

pytestmark = pytest.mark.training

KINDS = tf.distribute.experimental.CommunicationImplementation
RING = tf.distribute.experimental.CommunicationOptions()
OWN = tf.distribute.experimental.CommunicationOptions(implementation=KINDS.RING)
PACKED = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=1000)
DTYPES = (tf.float32, tf.float64, tf.int32, tf.int64, tf.bfloat16, tf.float16)


def reduced(joined: Any, values: Any, options: Any, op: str = "SUM", steps: int = 3) -> Any:
    """Reduce values several times in one call of a function, and return what comes out and the
    kinds of operations that did it."""

    @tf.function(autograph=False)
    def many() -> Any:
        def step() -> Any:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(op, [tf.identity(v) for v in values], options)

        def body(done: Any, *_: Any) -> Any:
            return done + 1, *joined.run(step)

        zeros = [tf.zeros(v.shape, v.dtype) for v in values]
        return tf.while_loop(lambda done, *_: done < steps, body, [0, *zeros])[1:]

    graph = many.get_concrete_function().graph
    # In the loop's body, which is a function of its own.
    kinds = {node.op for f in graph.as_graph_def().library.function for node in f.node_def}
    return [v.numpy() for v in many()], kinds


def _compare(assignment: Assignment) -> None:
    joined = strategy.join(assignment)
    members = len(assignment.cluster)
    rng = np.random.default_rng(assignment.position)
    digest = hashlib.sha256()
    for dtype in DTYPES:
        values = [
            tf.cast(tf.constant(rng.standard_normal(shape) * 100), dtype)
            for shape in ((), (1,), (0, 3), (5, 7), (300, 400))
        ]
        for op in ("SUM", "MEAN") if dtype.is_floating else ("SUM",):
            ours, kinds = reduced(joined, values, RING, op)
            assert "TaasAllReduce" in kinds
            assert "CollectiveReduceV2" not in kinds
            theirs, kinds = reduced(joined, values, OWN, op)
            assert "TaasAllReduce" not in kinds
            packed, _ = reduced(joined, values, PACKED, op)
            for one, other, third in zip(ours, theirs, packed, strict=True):
                assert one.dtype == other.dtype
                if members == 2:
                    np.testing.assert_array_equal(one, other)
                    np.testing.assert_array_equal(one, third)
                else:
                    # Three are added in another order.
                    wide = one.astype("float64"), other.astype("float64")
                    np.testing.assert_allclose(*wide, rtol=0.05, atol=4)
            for one in ours:
                digest.update(one.tobytes())
    print("bits", digest.hexdigest(), flush=True)  # noqa: T201
    strategy.part(members)
    os._exit(0)


@pytest.mark.parametrize("members", [2, 3])
def test_the_ring_reduces_as_tensorflow_does(tmp_path: Path, members: int) -> None:
    printed = groups.together(tmp_path, members, _compare)
    bits = [line for line in printed.splitlines() if line.startswith("bits ")]
    assert len(bits) == members
    assert len(set(bits)) == 1


def _mixed(assignment: Assignment) -> None:
    joined = strategy.join(assignment)
    members = len(assignment.cluster)
    own = float(assignment.position + 1)
    total = sum(range(1, members + 1))
    # A second strategy is in the ring of the first.
    another = tf.distribute.MultiWorkerMirroredStrategy()
    strategy.quicken(another, assignment)
    for made in (joined, another):
        sums, kinds = reduced(made, [tf.constant(own)], RING)
        assert sums == [total]
        assert "TaasAllReduce" in kinds
    # Outside of a function, and types side by side.
    per_replica = joined.run(lambda: tf.constant([own, 2.0]))
    assert joined.reduce("SUM", per_replica, axis=None).numpy().tolist() == [total, 2.0 * members]
    mixed, _ = reduced(joined, [tf.constant(own), tf.constant(3), tf.constant([own])], RING)
    assert [v.tolist() for v in mixed] == [total, 3 * members, [total]]

    # Sparse gradients are TensorFlow's, between others that are the ring's.
    @tf.function
    def sparse() -> Any:
        def step() -> Any:
            context = tf.distribute.get_replica_context()
            slices = tf.IndexedSlices(tf.constant([[own]]), tf.constant([1]), tf.constant([3, 1]))
            return context.all_reduce("SUM", [tf.constant(own), slices, tf.constant([own])])

        one, slices, other = joined.run(step)
        return one, tf.convert_to_tensor(slices), other

    one, slices, other = sparse()
    assert (one.numpy(), other.numpy().tolist()) == (total, [total])
    assert slices.numpy().tolist() == [[0.0], [total], [0.0]]

    # The gradient of a reduction is a reduction.
    variable = tf.Variable(own)

    @tf.function
    def gradient() -> Any:
        def step() -> Any:
            with tf.GradientTape() as tape:
                summed = tf.distribute.get_replica_context().all_reduce("SUM", variable * own)
            return tape.gradient(summed, variable)

        return joined.run(step)

    assert gradient().numpy() == own * members
    strategy.part(members)
    os._exit(0)


def test_whatever_a_program_reduces_has_its_sum(tmp_path: Path) -> None:
    groups.together(tmp_path, 2, _mixed)


def _without(assignment: Assignment, position: int) -> None:
    if assignment.position == position:
        os.environ[contract.ENV_RING] = "off"
    joined = strategy.join(assignment)
    another = tf.distribute.MultiWorkerMirroredStrategy()
    strategy.quicken(another, assignment)
    _leave_without_the_ring(joined, another)


def _leave_without_the_ring(*made: tf.distribute.Strategy) -> None:
    for each in made:
        sums, kinds = reduced(each, [tf.constant(1.0)], RING)
        assert sums == [2.0]
        assert "TaasAllReduce" not in kinds
    strategy.part(2)
    os._exit(0)


@pytest.mark.parametrize("position", [0, 1])
def test_switched_off_on_one_worker_it_is_off_on_all(tmp_path: Path, position: int) -> None:
    printed = groups.together(tmp_path, 2, _without, position)
    line = f"gradients go over TensorFlow's own ring: worker {position}: GRADIENT_RING is off"
    assert printed.count(line) == 1


def _older(assignment: Assignment, position: int) -> None:
    strategy.prepare(assignment)
    made = tf.distribute.MultiWorkerMirroredStrategy()
    if assignment.position != position:
        group.attach(made, assignment, silence_s=5, patience=meeting.Patience(0.1, 1))
    _leave_without_the_ring(made)


@pytest.mark.parametrize("position", [0, 1])
def test_beside_a_worker_that_knows_of_no_ring_there_is_none(tmp_path: Path, position: int) -> None:
    groups.together(tmp_path, 2, _older, position)


def _differ(assignment: Assignment) -> None:
    joined = strategy.join(assignment)
    try:
        reduced(joined, [tf.ones([10 + assignment.position])], RING)
    except tf.errors.OpError as error:
        differs = "reduce the same shapes in the same order" in str(error)
        print("lost", strategy.peer_lost(error, 2), "differs", differs, flush=True)  # noqa: T201
        os._exit(0)


def test_members_that_reduce_different_shapes_are_told(tmp_path: Path) -> None:
    printed = groups.together(tmp_path, 2, _differ)
    told, lost = printed.count("lost False differs True"), printed.count("lost True differs False")
    assert told + lost == 2
    assert told
