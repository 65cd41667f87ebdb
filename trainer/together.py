"""What all members of a group have to begin with alike, besides their steps.

The chief speaks and the others listen: an all-reduce in which they bring zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.snapshot import components

# What goes over the wire at a time, and is held twice meanwhile.
_MOST_BYTES = 64 << 20
# Whatever a variable's type, its bits go as integers that devices of every kind can add.
_WORD = np.dtype(np.int64)


def agree(strategy: Any, values: list[int]) -> list[int]:
    """Return the sums of integers over all members. A collective; the first replica speaks."""
    return [int(v) for v in _sums(strategy, np.array(values, _WORD))]


def own_first_values(strategy: Any) -> None:
    """From now on a variable made under the strategy has the first value that this process gives
    it. TensorFlow would ask the chief, for each variable by itself. Before variables are used
    their values have to come from a checkpoint, or by `share`."""
    extended = strategy.extended
    # As if there were one worker; a version of TensorFlow without this goes on to ask.
    alone = super(type(extended), extended)
    name = "_get_variable_creator_initial_value"
    if hasattr(alone, name):
        setattr(extended, name, getattr(alone, name))


def share(strategy: Any, variables: Iterable[tf.Variable], *, is_chief: bool) -> None:
    """Give the chief's values to the variables of all members, bit for bit. A collective: every
    member names variables of the same shapes and types in the same order."""
    if members_of(strategy) == 1:
        return
    for some in _parts(variables):
        sizes = [_bytes(variable) for variable in some]
        words = np.zeros(-(-sum(sizes) // _WORD.itemsize), _WORD)
        if is_chief:
            joined = b"".join(components(variable)[0].numpy().tobytes() for variable in some)
            words.view(np.uint8)[: len(joined)] = np.frombuffer(joined, np.uint8)
        told = _sums(strategy, words).tobytes()
        if is_chief:
            continue
        for variable, size, end in zip(some, sizes, np.cumsum(sizes), strict=True):
            value = np.frombuffer(told[end - size : end], variable.dtype.as_numpy_dtype)
            for component in components(variable):
                component.assign(value.reshape(variable.shape))


def _bytes(variable: tf.Variable) -> int:
    return int(variable.shape.num_elements() * variable.dtype.size)


def _parts(variables: Iterable[tf.Variable]) -> Iterator[list[tf.Variable]]:
    """Yield variables together as long as they are small."""
    part: list[tf.Variable] = []
    held = 0
    for variable in variables:
        size = _bytes(variable)
        if part and held + size > _MOST_BYTES:
            yield part
            part, held = [], 0
        part.append(variable)
        held += size
    if part:
        yield part


def _sums(strategy: Any, own: Any) -> Any:
    """Return the sum of arrays over the first replicas of all members."""
    local = strategy.num_replicas_in_sync // members_of(strategy)

    def together(values: Any) -> Any:
        def replica(values: Any) -> Any:
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group % local, 0)
            # Made here, it has a device, which the strategy needs to know.
            spoken = tf.where(first, values, tf.zeros_like(values))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, spoken)

        return strategy.experimental_local_results(strategy.run(replica, args=(values,)))[0]

    return tf.function(together, autograph=False)(tf.constant(own)).numpy()


def members_of(strategy: Any) -> int:
    """Return how many processes a strategy is in."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec():
        return 1
    return len(resolver.cluster_spec().as_dict().get("worker", [""]))
