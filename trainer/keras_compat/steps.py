"""The compiled steps of fit, evaluate and predict for a model whose batches are divided.

One collective for the gradients of a step, and one an execution for what it reports: the logs are
those of the whole group, the same on every worker, so that whatever a callback decides by them,
all decide.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from trainer.keras_compat import data, group, shares

Function = Callable[[Any], Any]


def _plain(function: Function) -> Function:
    """Keep AutoGraph from a function, and so from the user's step, as Keras does."""
    kept: Function = tf.autograph.experimental.do_not_convert(function)
    return kept


def make_function(model: Any, step: Function) -> Function:
    """Return what makes the steps of one execution and returns the group's logs.

    It takes an iterator, and raises StopIteration or OutOfRangeError where that has ended.
    """
    strategy = model.distribute_strategy

    @_plain
    def replica_step(batch: Any) -> Any:
        own, share = _own(strategy, batch)
        with shares.within(share), group.unchanged_without_rows(model, share):
            return step(own), share.rows

    @_plain
    def replica_report(outputs: Any) -> Any:
        return group.logs(model, *outputs)

    @_plain
    def one(batch: Any) -> Any:
        return strategy.run(replica_step, args=(batch,))

    @_plain
    def report(outputs: Any) -> Any:
        return _of_first_replica(strategy, strategy.run(replica_report, args=(outputs,)))

    @_plain
    def execution(iterator: Any) -> Any:
        outputs = one(iterator.get_next())
        if model.steps_per_execution > 1:
            outputs = _more_steps(iterator, one, outputs, model.steps_per_execution)
        return report(outputs)

    if model.run_eagerly:
        return lambda iterator: _step_by_step(model, one, report, iterator)
    if model.jit_compile:
        warnings.warn(
            "jit_compile=True has no effect in a group: XLA cannot compile a step in which workers "
            "exchange gradients. The step is compiled by TensorFlow without XLA.",
            stacklevel=2,
        )
    together, one_compiled, report_compiled = (
        tf.function(f, reduce_retracing=True) for f in (execution, one, report)
    )

    def function(iterator: Any) -> Any:
        if isinstance(iterator, tf.data.Iterator):
            return together(iterator)
        return _step_by_step(model, one_compiled, report_compiled, iterator)

    return function


def make_predict_function(model: Any) -> Function:
    """Return what predicts for a list of batches and returns the rows of all workers."""
    strategy = model.distribute_strategy

    @_plain
    def replica(batch: Any) -> Any:
        own, share = _own(strategy, batch)
        with shares.within(share):
            return model.predict_step(own)

    @_plain
    def replica_gather(outputs: Any) -> Any:
        return tf.nest.map_structure(group.gather, outputs)

    @_plain
    def gathered(outputs: Any) -> Any:
        return strategy.run(replica_gather, args=(outputs,))

    # Gathering is possible in a graph only.
    gather = tf.function(gathered) if model.run_eagerly else gathered

    @_plain
    def one(batch: Any) -> Any:
        outputs = strategy.run(replica, args=(batch,))
        if isinstance(batch, data.Batch):
            outputs = gather(outputs)
        return _of_first_replica(strategy, outputs)

    @_plain
    def function(batches: Any) -> Any:
        found = [one(batch) for batch in batches]
        if len(found) == 1:
            return found[0]
        return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *found)

    made: Function = function
    if not model.run_eagerly:
        made = tf.function(function, reduce_retracing=True)
    return made


def _own(strategy: Any, batch: Any) -> tuple[Any, shares.Share]:
    """Return what this replica computes, and its share."""
    if isinstance(batch, data.Batch):
        return batch.of(shares.own_number(strategy))
    return data.whole(batch)


def _of_first_replica(strategy: Any, values: Any) -> Any:
    return tf.nest.map_structure(lambda v: strategy.experimental_local_results(v)[0], values)


def _more_steps(iterator: Any, one: Function, outputs: Any, steps: int) -> Any:
    """Make the steps after the first, as far as the data goes; return the outputs of the last.

    Only the condition of the loop asks whether there is data: a step holds collectives, and those
    cannot stand in a branch.
    """

    def goes_on(done: Any, optional: Any, _: Any) -> Any:
        return tf.logical_and(done < steps, optional.has_value())

    def body(done: Any, optional: Any, _: Any) -> Any:
        made = one(optional.get_value())
        following = tf.cond(done + 1 < steps, iterator.get_next_as_optional, lambda: optional)
        return done + 1, following, made

    outputs = tf.nest.map_structure(tf.convert_to_tensor, outputs)
    state = (tf.constant(1), iterator.get_next_as_optional(), outputs)
    return tf.while_loop(goes_on, body, state, parallel_iterations=1)[2]


def _step_by_step(model: Any, one: Function, report: Function, iterator: Iterator[Any]) -> Any:
    """Make the steps of one execution on whatever can be iterated."""
    outputs = None
    try:
        for batch in itertools.islice(iterator, model.steps_per_execution):
            outputs = one(tf.nest.map_structure(_tensor, batch))
    except tf.errors.OutOfRangeError:
        if outputs is None:
            raise
    if outputs is None:
        raise StopIteration
    return report(outputs)


def _tensor(leaf: Any) -> Any:
    return (
        leaf
        if leaf is None or tf.is_tensor(leaf) or _per_replica(leaf)
        else tf.convert_to_tensor(leaf)
    )


def _per_replica(leaf: Any) -> bool:
    return isinstance(leaf, tf.distribute.DistributedValues)
