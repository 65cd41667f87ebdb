"""Gradients of the whole group, before anything looks at them.

Keras adds up the gradients of the replicas at the last moment: clipping, accumulation and loss
scaling see those of one replica alone. Clipping then depends on the number of workers, and a
replica that alone sees an overflow leaves the others waiting for it. Here they are reduced first.
What follows is the same computation on every replica, done in place: no step to the cross-replica
context, which Keras takes and which is not possible inside a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from trainer.keras_compat import shares

# Set on an optimizer whose gradients come reduced.
_REDUCED = "_taas_gradients_are_reduced"
# Set on an optimizer that another one calls with gradients that it has reduced.
_INNER = "_taas_is_inner"


def mend(tensorflow_optimizer: Any, base_optimizer: Any, loss_scale_optimizer: Any) -> None:
    """Mend Keras' classes TFOptimizer, BaseOptimizer and LossScaleOptimizer."""
    all_reduce = tensorflow_optimizer._all_reduce_sum_gradients
    apply = base_optimizer.apply
    scaled_apply = loss_scale_optimizer.apply

    def reduce_once(self: Any, pairs: Any) -> Any:
        return list(pairs) if getattr(self, _REDUCED, False) else all_reduce(self, pairs)

    def reduce_then(original: Callable[..., Any]) -> Callable[..., Any]:
        def apply_reduced(self: Any, grads: Any, trainable_variables: Any = None) -> Any:
            if _in_group() and not getattr(self, _INNER, False):
                grads = _group_gradients(self, list(grads), all_reduce)
                object.__setattr__(self, _REDUCED, True)
            return original(self, grads, trainable_variables)

        return apply_reduced

    def apply_scaled(self: Any, grads: Any, trainable_variables: Any = None) -> Any:
        for mark in (_INNER, _REDUCED):
            object.__setattr__(self.inner_optimizer, mark, _in_group())
        return scaled_apply(self, grads, trainable_variables)

    def in_place(name: str) -> Callable[..., Any]:
        original, base = getattr(tensorflow_optimizer, name), getattr(base_optimizer, name)

        def method(self: Any, *args: Any) -> Any:
            if _in_group() and getattr(self, _REDUCED, False):
                return base(self, *args)
            return original(self, *args)

        return method

    base_optimizer.apply = reduce_then(apply)
    loss_scale_optimizer.apply = reduce_then(apply_scaled)
    tensorflow_optimizer._all_reduce_sum_gradients = reduce_once
    for name in (
        "_backend_update_step",
        "_backend_increment_gradient_accumulators",
        "_apply_weight_decay",
        "_overwrite_model_variables_with_average_value",
    ):
        setattr(tensorflow_optimizer, name, in_place(name))


def _in_group() -> bool:
    """Tell whether this is a replica. The only one of a group meets the same conditions."""
    context = tf.distribute.get_replica_context()
    return context is not None and shares.mirrored(context.strategy)


def _group_gradients(
    optimizer: Any, grads: Sequence[Any], all_reduce: Callable[..., Any]
) -> list[Any]:
    """Return the gradients of the whole group, None where there is none.

    In a step each replica's loss is the mean over its own rows, so the gradient of the global
    batch is the mean of theirs, weighted by rows. In a loop of the user's own they add up, as
    tf.distribute has it.
    """
    share = shares.current()
    own = [(g if share is None else _weighted(g, share), g) for g in grads if g is not None]
    if not own:
        return list(grads)
    reduced = iter([gradient for gradient, _ in all_reduce(optimizer, own)])
    return [None if g is None else next(reduced) for g in grads]


def _weighted(gradient: Any, share: shares.Share) -> Any:
    if isinstance(gradient, tf.IndexedSlices):
        values = _weighted(gradient.values, share)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    # A mean over no rows may be 0 / 0.
    return tf.math.multiply_no_nan(gradient, tf.cast(share.fraction, gradient.dtype))
