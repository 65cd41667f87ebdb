"""Dropout whose masks are those of a single process: each replica takes its rows of one mask.

Keras draws the same mask on every replica, because all have the same seed and each counts for
itself; so row i of each share would lose the same units.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainer.keras_compat import shares


def mend(random: Any) -> None:
    """Mend Keras' module of random numbers for TensorFlow."""
    dropout = random.dropout

    def mended(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        share = shares.current()
        if share is None or share.first is None or rate in (0.0, 1.0) or inputs.shape.rank == 0:
            return dropout(inputs, rate, noise_shape, seed)
        return _rows_of_one_mask(dropout, inputs, rate, noise_shape, seed, share)

    random.dropout = mended


def _rows_of_one_mask(
    dropout: Any, inputs: Any, rate: float, noise_shape: Any, seed: Any, share: shares.Share
) -> Any:
    shape = tf.shape(inputs, tf.int64)
    # A layer may have folded other axes into the first one: so many lines belong to each row.
    lines = shape[0] // tf.maximum(share.rows, 1)
    whole = tf.concat([[lines * share.total], shape[1:]], axis=0)
    ones = tf.ones(whole, inputs.dtype)
    ones.set_shape([None, *inputs.shape[1:]])
    if noise_shape is not None and not _is_one(noise_shape[0]):
        noise_shape = (None, *noise_shape[1:])
    mask = dropout(ones, rate, noise_shape, seed)
    begin = lines * share.first
    mask = tf.ensure_shape(mask[begin : begin + shape[0]], inputs.shape)
    return tf.where(mask != 0, inputs * mask, tf.zeros_like(inputs))


def _is_one(size: Any) -> bool:
    """Tell whether all rows share a mask; a size that is a tensor is a number of rows."""
    return isinstance(size, int) and size == 1
