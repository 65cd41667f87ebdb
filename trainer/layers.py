"""Dropout that does not depend on the number of workers.

Keras draws a mask from a counter of each replica, so another number of workers gives another
training. Inside `step_of` the plain `keras.layers.Dropout` layers of a bound model draw from
(seed, step, layer, row of the global batch) instead. The user writes plain Keras, and the
exported model contains plain Keras. Other layers that draw at random (SpatialDropout,
GaussianNoise, recurrent dropout, augmentation layers) stay as Keras has them: repeatable with one
number of workers, different with another.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

# Replicas of one worker are traced in threads of their own.
_current = threading.local()
# One draw of the Philox generator gives four values.
_PHILOX = 1
_PER_DRAW = 4


@dataclass(frozen=True)
class _Place:
    """Where in the training a replica is; `first_row` is its first row of the global batch."""

    seed: int
    step: Any
    first_row: Any


@contextlib.contextmanager
def step_of(seed: int, step: Any, rows: Any) -> Iterator[None]:
    """Within, bound layers draw for this step (int64) and these consecutive rows (int64[k])."""
    before = getattr(_current, "place", None)
    _current.place = _Place(seed, tf.cast(step, tf.uint64), tf.cast(rows[0], tf.uint64))
    try:
        yield
    finally:
        _current.place = before


class _RowDropout(keras.layers.Dropout):
    """What a plain Dropout layer is while its model is bound."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop by row inside `step_of`, like Keras outside of it."""
        place = getattr(_current, "place", None)
        if place is None or not training or self.rate <= 0:
            return super().call(inputs, training=training)
        if self.rate >= 1:
            return tf.zeros_like(inputs)
        keep = _uniform(place, self._taas_number, self._mask_shape(inputs)) >= self.rate
        return tf.where(keep, inputs / (1.0 - self.rate), tf.zeros_like(inputs))

    def _mask_shape(self, inputs: Any) -> list[Any]:
        shape = list(inputs.shape)
        dynamic = tf.shape(inputs)
        full = [dynamic[i] if size is None else size for i, size in enumerate(shape)]
        if self.noise_shape is None:
            return full
        return [full[i] if size is None else size for i, size in enumerate(self.noise_shape)]


def _uniform(place: _Place, number: int, shape: list[Any]) -> Any:
    """Return values in [0, 1) of the given shape; those of a row depend on nothing but the row.

    Philox is a counter: a replica skips what belongs to the rows before its own. A row is
    rounded up to whole draws for that.
    """
    row_size = tf.reduce_prod(tf.cast(shape[1:], tf.int64)) if len(shape) > 1 else tf.constant(1)
    draws = (tf.cast(row_size, tf.int64) + _PER_DRAW - 1) // _PER_DRAW
    # With one mask for the whole batch every replica starts at the same place.
    first = place.first_row if shape[0] != 1 else tf.zeros((), tf.uint64)
    counter = tf.stack([first * tf.cast(draws, tf.uint64), place.step])
    key = tf.constant([(place.seed * 0x9E3779B97F4A7C15 + number) % 2**64], tf.uint64)
    flat = tf.raw_ops.StatelessRandomUniformV2(
        shape=tf.stack([tf.cast(shape[0], tf.int64), draws * _PER_DRAW]),
        key=key,
        counter=counter,
        alg=_PHILOX,
        dtype=tf.float32,
    )
    return tf.reshape(flat[:, : tf.cast(row_size, tf.int64)], shape)


def bind(model: Any) -> None:
    """Let the model's Dropout layers follow `step_of`."""
    for number, layer in enumerate(_dropouts(model)):
        layer._taas_number = number
        layer.__class__ = _RowDropout


def _dropouts(model: Any) -> list[Any]:
    """Return the plain Dropout layers at any depth, in the order of the model."""
    layers = model._flatten_layers(include_self=True, recursive=True)
    unique = {id(layer): layer for layer in layers if type(layer) is keras.layers.Dropout}
    return list(unique.values())
