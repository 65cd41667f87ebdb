"""Examples: a data set with random access, and the ways to make another one out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.data.errors import DataError
from trainer.data.mixing import mix, mix_array, mix_tensor

# (indices int64[k], keys uint64[k]) -> (features, labels), each a tensor or a nest, batched.
Fetch = Callable[[Any, Any], tuple[Any, Any]]
# One hash (uint64) an example, of what it is made from.
Content = NDArray[np.uint64]
# Examples fetched at once while a cache is filled.
_CHUNK = 64


class Examples:
    """A fixed number of examples that are fetched by index, many at a time.

    Nothing is computed before the first fetch, and no device is touched before it, so that a
    data set may be opened before the distribution strategy is built.
    """

    def __init__(
        self,
        size: int,
        fetch: Fetch,
        class_names: Sequence[str] | None = None,
        *,
        content: Content | None = None,
        plain: bool = False,
    ) -> None:
        """Wrap `fetch`, which must be safe inside a graph and know its static shapes.

        With `content`, `split` goes by it instead of by position. A `plain` fetch has no Python
        `if` or loop over tensors, so autograph, which takes long to look for them, may leave it
        alone.
        """
        if size < 1:
            raise DataError("no example is left in the data set; it needs at least one")
        self.size = size
        # A hash of what each example is made from, where that is known.
        self.content = content
        self.plain = plain
        self.class_names: tuple[str, ...] | None = tuple(class_names) if class_names else None
        self._fetch = fetch

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.size

    def fetch(self, indices: Any, keys: Any = None) -> tuple[Any, Any]:
        """Return (features, labels) of the examples at `indices` (int64[k]), in that order.

        `keys` (uint64[k], from trainer.data.order) say which (seed, epoch) each example is
        fetched for; only augmentations depend on them. Without keys every fetch is alike.
        Safe inside `tf.data.Dataset.map`.
        """
        indices = tf.convert_to_tensor(indices, tf.int64)
        if keys is None:
            keys = tf.zeros_like(indices, tf.uint64)
        return self._fetch(indices, keys)

    def for_map(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that fetches, and has nothing for autograph itself, as
        `tf.data.Dataset.map` should get it. To look takes autograph some tenths of a second."""
        return tf.autograph.experimental.do_not_convert(function) if self.plain else function

    @cached_property
    def element_spec(self) -> tuple[Any, Any]:
        """(features, labels) as tf.TensorSpec of one example, without the batch axis."""
        indices = tf.TensorSpec([None], tf.int64)
        outputs = tf.function(self.fetch).get_concrete_function(indices).structured_outputs

        def one(tensor: Any) -> Any:
            return tf.TensorSpec(tensor.shape[1:], tensor.dtype)

        features, labels = outputs
        return tf.nest.map_structure(one, features), tf.nest.map_structure(one, labels)

    def map(self, fn: Callable[[Any, Any], tuple[Any, Any]]) -> Examples:
        """Apply `fn(features, labels) -> (features, labels)` to every batch fetched.

        `fn` gets whole batches, runs as a graph on the CPU, and must treat each example by
        itself: which examples share a batch is not part of the contract.
        """

        def fetch(indices: Any, keys: Any) -> tuple[Any, Any]:
            return _pair(fn(*self._fetch(indices, keys)), "map")

        return self._of(fetch)

    def augment(self, fn: Callable[[Any, Any, Any], tuple[Any, Any]]) -> Examples:
        """Apply `fn(features, labels, seeds)` to every batch, with int32[k, 2] `seeds`.

        Row i belongs to example i, for the `seed` argument of `tf.random.stateless_*` and
        `tf.image.stateless_*`. It is a pure function of the job's seed, the epoch and the
        example, so a restarted training sees the same pictures again.
        """

        def fetch(indices: Any, keys: Any) -> tuple[Any, Any]:
            # The nested call gets other keys, so that two augmentations in a row differ.
            features, labels = self._fetch(indices, mix_tensor(keys))
            salted = tf.bitwise.bitwise_xor(keys, mix_tensor(tf.cast(indices, tf.uint64)))
            seeds = tf.bitcast(mix_tensor(salted), tf.int32)
            return _pair(fn(features, labels, seeds), "augment")

        return self._of(fetch)

    def cache(self) -> Examples:
        """Keep everything in main memory, from the first fetch on.

        Filled on all CPU cores at that first fetch, once for all parts that are made of the
        result. What comes before it is then alike in every epoch, so augment after it.
        """
        table = _Cached(self)

        def fetch(indices: Any, keys: Any) -> tuple[Any, Any]:
            del keys
            features, labels = tf.nest.map_structure(
                lambda tensor: tf.gather(tensor, indices), table.tensors
            )
            return features, labels

        # The first fetch fills the table, and what is forbidden to autograph around it is forbidden
        # to it within.
        return self._of(fetch, plain=self.plain)

    def take(self, n: int) -> Examples:
        """Return the first `n` examples, or all if there are fewer."""
        return self._part(slice(0, min(n, self.size)), lambda indices: indices)

    def skip(self, n: int) -> Examples:
        """Return all but the first `n` examples."""
        if n < 0:
            raise DataError(f"skip({n}): the number of examples to skip cannot be negative")
        return self._part(slice(min(n, self.size), self.size), lambda indices: indices + n)

    def split(self, fraction: float, seed: int) -> tuple[Examples, Examples]:
        """Divide at random into (`fraction` of the examples, the rest), alike everywhere.

        Examples that know their content (pictures) are divided by it: which part one belongs to
        is a function of its bytes, the fraction and the seed. So a file may be renamed or moved,
        copies of a picture are always in one part, and pictures that are added later move none
        of the others; the size of a part is `fraction` of all only about. Others are divided
        by position, exactly.
        """
        if self.content is None:
            hashes = mix_array(np.arange(self.size, dtype=np.uint64) ^ np.uint64(mix(seed)))
            chosen = np.zeros(self.size, bool)
            order = np.argsort(hashes, kind="stable")
            chosen[order[: max(0, round(self.size * fraction))]] = True
        else:
            hashes = mix_array(self.content ^ np.uint64(mix(seed)))
            chosen = hashes < fraction * 2.0**64
        first = int(chosen.sum())
        if not 0 < first < self.size:
            raise DataError(
                f"split({fraction}): leaves {first} and {self.size - first} of {self.size} "
                "examples; choose a fraction between 0 and 1 that leaves both parts some"
            )
        parts = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        return self._select(parts[0], seed), self._select(parts[1], seed)

    def _select(self, chosen: NDArray[np.int64], seed: int) -> Examples:
        table = OnHost(chosen)
        part = self._part(chosen, lambda indices: tf.gather(table.tensors, indices))
        if part.content is not None:
            # All of a part lie on one side of the hash that made it, so that dividing it again
            # needs another one.
            part.content = mix_array(mix_array(part.content) ^ np.uint64(mix(seed)))
        return part

    def _of(self, fetch: Fetch, *, plain: bool = False) -> Examples:
        """Return other features or labels of the same examples."""
        return Examples(self.size, fetch, self.class_names, content=self.content, plain=plain)

    def _part(self, chosen: slice | NDArray[np.int64], outer: Callable[[Any], Any]) -> Examples:
        """Return the chosen examples; `outer` maps their indices to those of this data set."""
        return Examples(
            len(np.arange(self.size)[chosen]),
            lambda indices, keys: self._fetch(outer(indices), keys),
            self.class_names,
            content=None if self.content is None else self.content[chosen],
            plain=self.plain,
        )


class OnHost:
    """A nest of arrays that becomes tensors in main memory when first used.

    They are eager tensors: a graph that uses them captures them by reference, so that their
    size is limited by memory only, not by the 2 GiB of a serialized graph.
    """

    def __init__(self, arrays: Any) -> None:
        """Hold on to `arrays`, a nest of NumPy arrays, until they have become tensors."""
        self._arrays = arrays

    @cached_property
    def tensors(self) -> Any:
        """The same nest of tensors."""
        with tf.init_scope(), tf.device("CPU:0"):
            tensors = tf.nest.map_structure(tf.constant, self._arrays)
        # From here on there is one copy in memory, not two.
        self._arrays = None
        return tensors


class _Cached:
    """All examples of a data set, as tensors in main memory when first used."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    @cached_property
    def tensors(self) -> Any:
        """(features, labels) of all examples."""
        examples = self._examples
        with tf.init_scope(), tf.device("CPU:0"):
            chunks = tf.data.Dataset.range(0, examples.size, _CHUNK).map(
                lambda first: examples.fetch(
                    tf.range(first, tf.minimum(first + _CHUNK, examples.size))
                ),
                num_parallel_calls=len(os.sched_getaffinity(0)),
                deterministic=True,
            )
            parts = list(chunks)
            return tf.nest.map_structure(lambda *tensors: tf.concat(tensors, 0), *parts)


def _pair(result: Any, where: str) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise DataError(
            f"the function given to {where} must return (features, labels); "
            f"it returned {type(result).__name__}"
        )
    return result
