"""What part of a global batch a replica holds, for everything that has to know while it computes.

Inside `within` the present replica computes a step of `fit`, `evaluate` or `predict`; outside of
it nothing that Keras does is changed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

# Replicas of one worker are traced in threads of their own.
_current = threading.local()


@dataclass(frozen=True)
class Share:
    """The rows of a global batch that one replica holds; scalars, int64 tensors.

    `first` is the number of its first row, or None where nobody knows it: TensorFlow has divided
    the data, or the program has given each worker its own.
    """

    rows: Any
    total: Any
    first: Any | None = None

    @property
    def fraction(self) -> Any:
        """Return the part of the batch that these rows are, as a float32 tensor."""
        return tf.cast(self.rows, tf.float32) / tf.cast(self.total, tf.float32)

    @property
    def inverse(self) -> Any:
        """Return 1 / fraction, and 0 for no rows, as a float32 tensor."""
        return tf.math.divide_no_nan(
            tf.cast(self.total, tf.float32), tf.cast(self.rows, tf.float32)
        )


def current() -> Share | None:
    """Return the share of the replica that computes now, or None outside of a step."""
    return getattr(_current, "share", None)


@contextlib.contextmanager
def within(share: Share) -> Iterator[None]:
    """Within, this thread computes the step of one replica."""
    before = current()
    _current.share = share
    try:
        yield
    finally:
        _current.share = before


def mirrored(strategy: Any) -> bool:
    """Tell whether a strategy is of the kinds mended here, for however many replicas."""
    return isinstance(
        strategy, (tf.distribute.MultiWorkerMirroredStrategy, tf.distribute.MirroredStrategy)
    )


def divided(strategy: Any) -> bool:
    """Tell whether a strategy divides a batch over several replicas in the way mended here."""
    return mirrored(strategy) and strategy.num_replicas_in_sync > 1


def local_replicas(strategy: Any) -> range:
    """Return the numbers, in the whole group, of the replicas of this worker."""
    first = int(strategy.extended._get_replica_id_in_sync_group(0))
    return range(first, first + len(strategy.extended.worker_devices))


def own_number(strategy: Any) -> int:
    """Return the number of the present replica among those of this worker."""
    context = tf.distribute.get_replica_context()
    replicas = local_replicas(strategy)
    # Plain numbers while each replica is traced for itself.
    return 0 if len(replicas) == 1 else int(context.replica_id_in_sync_group) - replicas.start
