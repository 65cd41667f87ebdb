"""Losses, as a program for one process means them: the mean over the rows that are there.

Keras divides each loss by the number of replicas and lets the optimizer add up. That is right for
equal shares, and for losses of Keras' own only. Inside a step a loss here is simply the mean over
the replica's rows, and the gradients are weighted by rows (see optimizers.py): right for any
shares, and for any loss that a train_step computes. What is not a mean is made to fit.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from trainer.keras_compat import shares


def mend(loss: Any, compile_utils: Any) -> None:
    """Mend Keras' modules of losses and of what compile() makes of them, and tf.nn's losses."""
    reduce_values, apply_mask = loss.reduce_values, loss.apply_mask

    def mended_reduce(
        values: Any, sample_weight: Any = None, reduction: str | None = "sum_over_batch_size"
    ) -> Any:
        share = shares.current()
        result = reduce_values(values, sample_weight, reduction)
        if share is None or reduction in (None, "none") or tuple(values.shape) in ((), (0,)):
            return result
        if reduction == "sum":
            return result * tf.cast(share.inverse, result.dtype)
        if reduction == "mean_with_sample_weight" and sample_weight is not None:
            weight = tf.reduce_sum(sample_weight)
            return result * tf.cast(_excess(weight, share), result.dtype)
        return result

    def mended_mask(sample_weight: Any, mask: Any, dtype: Any, reduction: str | None) -> Any:
        share = shares.current()
        result = apply_mask(sample_weight, mask, dtype, reduction)
        if share is None or mask is None or reduction not in ("mean", "sum_over_batch_size"):
            return result
        valid = tf.reduce_sum(tf.cast(mask, tf.float32))
        return result * tf.cast(_excess(valid, share), result.dtype)

    compile_utils.loss_module = SimpleNamespace(
        unscale_loss_for_distribution=_part_of_mean(loss.unscale_loss_for_distribution)
    )
    loss.reduce_values = mended_reduce
    loss.apply_mask = mended_mask
    for name in ("scale_loss_for_distribution", "unscale_loss_for_distribution"):
        setattr(loss, name, _unchanged_in_step(getattr(loss, name)))
    tf.nn.scale_regularization_loss = _unchanged_in_step(tf.nn.scale_regularization_loss)
    tf.nn.compute_average_loss = _average_of_rows(tf.nn.compute_average_loss)


def _excess(own: Any, share: shares.Share) -> Any:
    """Return what makes `sum / own` the replica's part of `group sum / group's total of own`.

    A collective. The result is weighted by rows like any other mean.
    """
    own = tf.stop_gradient(tf.cast(own, tf.float32))
    context = tf.distribute.get_replica_context()
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, own)
    return tf.math.divide_no_nan(own, total) * share.inverse


def _unchanged_in_step(original: Any) -> Any:
    def function(value: Any) -> Any:
        return original(value) if shares.current() is None else value

    return function


def _part_of_mean(original: Any) -> Any:
    """Return what a replica adds to the record that Keras keeps of each output's loss.

    Keras takes the mean over batches where it does not know how many rows they have: each replica
    then counts for one, so what it adds is its part of the batch's loss, times their number.
    """

    def function(value: Any) -> Any:
        share = shares.current()
        if share is None:
            return original(value)
        if tf.get_static_value(share.rows):
            return value
        count = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.math.multiply_no_nan(value, tf.cast(share.fraction * count, value.dtype))

    return function


def _average_of_rows(original: Any) -> Any:
    def compute_average_loss(
        per_example_loss: Any, sample_weight: Any = None, global_batch_size: Any = None
    ) -> Any:
        share = shares.current()
        if share is None:
            return original(per_example_loss, sample_weight, global_batch_size)
        average = original(per_example_loss, sample_weight, 1)
        # The sum of this replica's examples, then over the batch that the program names.
        size = share.total if global_batch_size is None else global_batch_size
        return average / tf.cast(size, average.dtype) * tf.cast(share.inverse, average.dtype)

    return compute_average_loss
