"""Divides each global batch into the rows of the replicas, so that all together see what one would.

Every worker reads the whole of the data and keeps its own rows: the global batches are then those
of a single process, whatever the number of workers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.keras_compat import shares

_LEFT_TO_TENSORFLOW = (
    tf.data.experimental.AutoShardPolicy.FILE,
    tf.data.experimental.AutoShardPolicy.HINT,
    tf.data.experimental.AutoShardPolicy.OFF,
)


class Batch(NamedTuple):
    """This worker's rows of one global batch: a piece for each of its replicas.

    `bounds` is int64[replicas, 3]: first row, number of rows, rows of the global batch.
    """

    bounds: Any
    pieces: tuple[Any, ...]

    def of(self, number: int) -> tuple[Any, shares.Share]:
        """Return a local replica's piece and its share."""
        first, rows, total = tf.unstack(self.bounds[number])
        known = _rows(self.pieces[number])
        if isinstance(known, int):
            rows = tf.constant(known, tf.int64)
        return self.pieces[number], shares.Share(rows, total, first)


def divide(dataset: Any, strategy: Any) -> Any:
    """Return the data set of this worker's `Batch`es, or what TensorFlow makes of it.

    A program that has chosen another way of sharding in the options of its data set keeps it.
    """
    if not isinstance(dataset, tf.data.Dataset):
        return dataset
    if dataset.options().experimental_distribute.auto_shard_policy in _LEFT_TO_TENSORFLOW:
        return strategy.experimental_distribute_dataset(dataset)
    replicas = shares.local_replicas(strategy)
    count = strategy.num_replicas_in_sync

    # As tf.data calls functions: a plain tuple is unpacked, anything else is one argument.
    unpacked = type(dataset.element_spec) is tuple

    def pieces(*element: Any) -> Batch:
        batch = element if unpacked else element[0]
        total = _rows(batch)
        cuts = [total * number // count for number in range(replicas.start, replicas.stop + 1)]
        return Batch(
            tf.stack(
                [
                    tf.stack([tf.cast(n, tf.int64) for n in (start, stop - start, total)])
                    for start, stop in itertools.pairwise(cuts)
                ]
            ),
            tuple(
                tf.nest.map_structure(lambda leaf, a=start, b=stop: _cut(leaf, a, b), batch)
                for start, stop in itertools.pairwise(cuts)
            ),
        )

    cut = dataset.map(pieces, num_parallel_calls=1, deterministic=True)
    return cut.prefetch(tf.data.AUTOTUNE)


def _rows(batch: Any) -> Any:
    """Return the number of rows: a plain number where the shape says it."""
    for leaf in tf.nest.flatten(batch):
        if isinstance(leaf, tf.RaggedTensor):
            return leaf.nrows()
        if isinstance(leaf, tf.SparseTensor):
            return leaf.dense_shape[0]
        if tf.is_tensor(leaf) and leaf.shape.rank != 0:
            known = leaf.shape[0] if leaf.shape.rank is not None else None
            return tf.shape(leaf, tf.int64)[0] if known is None else int(known)
    raise ValueError(
        "a batch holds no tensor with rows, so it cannot be divided over workers; "
        "call batch() on the data set"
    )


def _cut(leaf: Any, start: Any, stop: Any) -> Any:
    """Return rows [start, stop) of one tensor of a batch."""
    if isinstance(leaf, tf.SparseTensor):
        shape = leaf.dense_shape
        begin = tf.concat([[start], tf.zeros_like(shape[1:])], axis=0)
        return tf.sparse.slice(leaf, begin, tf.concat([[stop - start], shape[1:]], axis=0))
    if tf.is_tensor(leaf) and leaf.shape.rank != 0:
        return leaf[start:stop]
    # A missing part of a generator's batch, or one value for the whole batch.
    return leaf


def whole(batch: Any) -> tuple[Any, shares.Share]:
    """Return a batch that this replica holds whole, and its share. A collective, in a replica."""
    rows = tf.cast(_rows(batch), tf.int64)
    context = tf.distribute.get_replica_context()
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(rows, tf.float32))
    return batch, shares.Share(rows, tf.cast(total, tf.int64))


def specification(data: Any) -> Any:
    """Return the structure of what a model gets of a data set, each leaf with shape and dtype."""
    spec = data.element_spec
    if isinstance(spec, Batch):
        spec = spec.pieces[0]
    return tf.nest.map_structure(_without_rows, spec)


def _without_rows(leaf: Any) -> Any:
    # Per-replica specifications of TensorFlow's own division hold one for each replica.
    values: Sequence[Any] | None = getattr(leaf, "_value_specs", None)
    leaf = values[0] if values else leaf
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        return None
    if leaf.shape.rank is None or leaf.shape.rank == 0:
        return leaf
    return tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype)
