"""A stateless hash of integers, the same on every machine and in every release.

One round of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
2014). Orders and seeds derived from it are part of a job's result, so no library's generator,
which may change between releases, takes its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

_GAMMA = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK = 2**64 - 1


def mix(value: int) -> int:
    """Return the hash of an integer, taken modulo 2**64."""
    z = (value + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * _FIRST) & _MASK
    z = ((z ^ (z >> 27)) * _SECOND) & _MASK
    return z ^ (z >> 31)


def mix_array(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hash of each element."""
    z = values + np.uint64(_GAMMA)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    return z ^ (z >> np.uint64(31))


def mix_tensor(values: Any) -> Any:
    """Return the hash of each element of a uint64 tensor. Safe in a graph."""

    def shifted(z: Any, bits: int) -> Any:
        return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, tf.constant(bits, tf.uint64)))

    z = values + tf.constant(_GAMMA, tf.uint64)
    z = shifted(z, 30) * tf.constant(_FIRST, tf.uint64)
    z = shifted(z, 27) * tf.constant(_SECOND, tf.uint64)
    return shifted(z, 31)
