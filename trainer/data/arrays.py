"""Examples out of NumPy arrays in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.data.errors import DataError
from trainer.data.examples import Examples, OnHost


def arrays(x: Any, y: Any, class_names: Sequence[str] | None = None) -> Examples:
    """Return examples whose features are the rows of `x` and labels the rows of `y`.

    Both are an array or a nest (dict, tuple) of arrays with one length. float64 becomes float32
    because layers compute in it.
    """
    features = _checked(x, "x")
    labels = _checked(y, "y")
    lengths = [len(part) for part in tf.nest.flatten((features, labels))]
    if not lengths:
        raise DataError("x and y hold no array; give at least one")
    if len(set(lengths)) > 1:
        raise DataError(
            f"x and y must have one length, but their arrays have {lengths}; "
            "give one row of each for every example"
        )
    if not lengths[0]:
        raise DataError("x and y are empty; give at least one example")
    table = OnHost((features, labels))

    def fetch(indices: Any, keys: Any) -> tuple[Any, Any]:
        del keys

        def rows(array: Any) -> Any:
            return tf.gather(array, indices)

        features, labels = table.tensors
        return tf.nest.map_structure(rows, features), tf.nest.map_structure(rows, labels)

    return Examples(lengths[0], fetch, class_names, plain=True)


def _checked(nest: Any, name: str) -> Any:
    """Return the nest with every leaf as an array that TensorFlow can hold."""

    def leaf(value: Any) -> NDArray[Any]:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise DataError(f"{name} is not an array: {error}; make its rows alike") from error
        if array.ndim == 0:
            raise DataError(f"{name} is the single value {value!r}; give an array of examples")
        if array.dtype == np.float64:
            return array.astype(np.float32)
        text = array.dtype.kind in "US" or (
            array.dtype == object and all(isinstance(v, (str, bytes)) for v in array.flat)
        )
        if array.dtype.kind not in "biufc" and not text:
            raise DataError(
                f"{name} has dtype {array.dtype}; give numbers, truth values or text, "
                "with rows of one shape"
            )
        return array

    # Lists are rows, not nests, as they are for NumPy.
    if isinstance(nest, dict):
        return {key: _checked(value, f"{name}[{key!r}]") for key, value in nest.items()}
    if isinstance(nest, tuple):
        return tuple(_checked(value, f"{name}[{i}]") for i, value in enumerate(nest))
    return leaf(nest)
