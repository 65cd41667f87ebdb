"""What the group agrees on: logs, statistics that each replica keeps for itself, random numbers."""

from __future__ import annotations

import contextlib
import functools
import random
import zlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context as eager

from trainer.keras_compat import shares

_SUM = tf.distribute.ReduceOp.SUM
# Where the compiled function that averages a model's statistics is kept.
_AVERAGE = "_taas_average_statistics"
# What a collective can carry for types that it does not know.
_CARRIED_AS = {
    tf.bool: tf.int32,
    tf.int8: tf.int32,
    tf.int16: tf.int32,
    tf.uint8: tf.int32,
    tf.uint16: tf.int32,
    tf.uint32: tf.int64,
}


def logs(model: Any, outputs: Any, rows: Any) -> Any:
    """Return the logs of the whole group for the outputs of this replica's last step.

    Where a step returns results of the model's metrics, these are the results over the rows of
    all replicas; any other number is the mean over the replicas, weighted by rows. A collective.
    """
    weight = tf.cast(rows, tf.float64)
    variables = list(model.metrics_variables)
    leaves = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(outputs)]
    results = _aligned(outputs, _results(model))
    own = [
        *(_flat(_value(v)) * _coefficient(v) for v in variables),
        *(tf.math.multiply_no_nan(_flat(leaf), weight) for leaf in leaves),
        *(_differs(leaf, result, rows) for leaf, result in zip(leaves, results, strict=True)),
        [weight],
    ]
    total = tf.distribute.get_replica_context().all_reduce(_SUM, tf.concat(own, axis=0))
    parts = tf.split(total, [tf.size(part) for part in own], num=len(own))
    states, parts = parts[: len(variables)], parts[len(variables) :]
    pairs = [
        (v, tf.reshape(tf.cast(state, v.dtype), v.shape))
        for v, state in zip(variables, states, strict=True)
    ]
    with keras.StatelessScope(state_mapping=pairs):
        of_group = _aligned(outputs, _results(model))
    count = len(leaves)
    chosen = []
    for leaf, mean, differs, result in zip(
        leaves, parts[:count], parts[count : 2 * count], of_group, strict=True
    ):
        mean = tf.reshape(tf.cast(mean / total[-1], leaf.dtype), tf.shape(leaf))
        if result is not None:
            mean = tf.where(differs[0] == 0, tf.cast(result, leaf.dtype), mean)
        chosen.append(mean)
    return tf.nest.pack_sequence_as(outputs, chosen)


def _results(model: Any) -> dict[str, Any]:
    """Return what the model's metrics say, by the names that a step may return them under."""
    return {**{m.name: m.result() for m in model.metrics}, **model.get_metrics_result()}


def _aligned(outputs: Any, results: dict[str, Any]) -> list[Any]:
    """Return for each leaf of a step's outputs the metric's result that its name means, or None."""
    if not isinstance(outputs, dict):
        return [None] * len(tf.nest.flatten(outputs))
    found: list[Any] = []
    for name in sorted(outputs):
        leaves = tf.nest.flatten(outputs[name])
        values = tf.nest.flatten(results.get(name))
        alike = name in results and len(values) == len(leaves)
        found += values if alike else [None] * len(leaves)
    return found


def _differs(leaf: Any, result: Any, rows: Any) -> Any:
    """Return [1.0] if a returned value is not what the metric of its name says, else [0.0].

    A step may return a number of its own under the name of a metric that it does not use.
    Without rows it says nothing.
    """
    if result is None or leaf.shape != result.shape:
        return tf.ones([1], tf.float64)
    differs = tf.reduce_any(leaf != tf.cast(result, leaf.dtype))
    return tf.reshape(tf.cast(tf.logical_and(differs, rows > 0), tf.float64), [1])


def _value(variable: Any) -> Any:
    """Return this replica's own value of a Keras variable."""
    return tf.identity(tf.convert_to_tensor(variable.value))


def _flat(tensor: Any) -> Any:
    return tf.reshape(tf.cast(tensor, tf.float64), [-1])


def _coefficient(variable: Any) -> float:
    """Return what a replica's state counts in the group's: metrics keep sums, few of them means."""
    count: int = tf.distribute.get_strategy().num_replicas_in_sync
    return 1.0 if variable.aggregation == "sum" else 1.0 / count


@contextlib.contextmanager
def unchanged_without_rows(model: Any, share: shares.Share) -> Iterator[None]:
    """Let a step on no rows change neither metrics nor statistics, which 0 / 0 would spoil."""
    if tf.get_static_value(share.rows):
        yield
        return
    # The records of each output's loss count a replica without rows, see losses.py.
    records = {id(v) for m in getattr(model._compile_loss, "metrics", ()) for v in m.variables}
    kept = [v for v in model.metrics_variables if id(v) not in records]
    variables = [*kept, *statistics(model)]
    before = [_value(v) for v in variables]
    yield
    for variable, value in zip(variables, before, strict=True):
        variable.value.assign(tf.where(share.rows > 0, _value(variable), value))


def statistics(model: Any) -> list[Any]:
    """Return the variables that layers keep without training them, as moving averages are."""
    found = {
        id(v): v
        for layer in model._flatten_layers(include_self=True, recursive=True)
        for v in layer._non_trainable_variables
        if v.aggregation == "none" and tf.as_dtype(v.dtype).is_floating
    }
    return list(found.values())


def average_statistics(model: Any) -> None:
    """Give each replica the mean of what all have kept, as validation and saving expect.

    A collective, in cross-replica context. Moving averages are linear in what was averaged: it
    does not matter how often this is called.
    """
    function = getattr(model, _AVERAGE, None)
    if function is None:
        strategy, variables = model.distribute_strategy, statistics(model)

        def replica() -> None:
            own = [_value(v) for v in variables]
            reduced = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.MEAN, own
            )
            for variable, mean in zip(variables, reduced, strict=True):
                variable.value.assign(mean)

        function = tf.function(lambda: strategy.run(replica), autograph=False)
        if not variables:
            function = _nothing
        object.__setattr__(model, _AVERAGE, function)
    function()


def _nothing() -> None:
    """Stand for the averaging of a model that keeps no statistics."""


def gather(leaf: Any) -> Any:
    """Return the rows of all replicas, in order. A collective, in a replica."""
    if leaf.shape.rank == 0:
        return leaf
    # Made here, it has a device, which the strategy needs to know.
    carried = tf.identity(tf.cast(leaf, _CARRIED_AS.get(leaf.dtype, leaf.dtype)))
    gathered = tf.distribute.get_replica_context().all_gather(carried, axis=0)
    return tf.cast(gathered, leaf.dtype)


def spread(strategy: Any, variables: list[Any]) -> None:
    """Give every replica the chief's values. A collective, in cross-replica context."""

    def replica() -> None:
        context = tf.distribute.get_replica_context()
        chief = tf.equal(context.replica_id_in_sync_group, 0)
        for variable in variables:
            own = _value(variable)
            carried = tf.cast(own, _CARRIED_AS.get(own.dtype, own.dtype))
            spoken = tf.where(chief, carried, tf.zeros_like(carried))
            variable.value.assign(tf.cast(context.all_reduce(_SUM, spoken), own.dtype))

    unique = {id(v): v for v in variables if v.synchronization != "on_read"}
    variables = list(unique.values())
    tf.function(lambda: strategy.run(replica), autograph=False)()


def share_randomness(strategy: Any) -> None:
    """Let all workers draw the same random numbers, so that they shuffle alike.

    A collective, in cross-replica context. Workers that are seeded alike are left alone; else all
    go on from a number that the chief draws.
    """
    seed = eager.context()._seed
    own = [
        zlib.crc32(repr(random.getstate()).encode()),
        zlib.crc32(repr(np.random.get_state()).encode()),
        -1 if seed is None else int(seed) % 2**31,
    ]
    drawn = random.SystemRandom().randrange(2**31)
    rows = said_by_all(strategy, [*own, drawn])
    if seed is None or any(row[:-1] != rows[0][:-1] for row in rows):
        keras.utils.set_random_seed(rows[0][-1])


def said_by_all(strategy: Any, values: list[int]) -> list[list[int]]:
    """Return what every replica's worker says, in their order. A collective, cross-replica."""
    function = _exchange(strategy)
    rows: list[list[int]] = function(tf.constant(values, tf.int64)).numpy().tolist()
    return rows


@functools.lru_cache(maxsize=8)
def _exchange(strategy: Any) -> Any:
    count = strategy.num_replicas_in_sync

    def replica(values: Any) -> Any:
        context = tf.distribute.get_replica_context()
        place = tf.one_hot(context.replica_id_in_sync_group, count, dtype=tf.int64)
        return context.all_reduce(_SUM, place[:, tf.newaxis] * values[tf.newaxis, :])

    def together(values: Any) -> Any:
        said = strategy.run(replica, args=(values,))
        return strategy.experimental_local_results(said)[0]

    return tf.function(together, reduce_retracing=True, autograph=False)
