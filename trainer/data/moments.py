"""Mean and variance of what the examples hold, for a model that normalizes its inputs."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.data.errors import DataError
from trainer.data.examples import Examples

# Examples fetched at once.
_BLOCK = 8192


def moments(examples: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and variance, float32 of the features' shape, over all the examples.

    Meant for `keras.layers.Normalization(mean=mean, variance=variance)` as a model's first layer,
    so that the exported model takes what was measured. Fetches every example once.
    """
    count = 0
    mean: NDArray[np.float64] = np.zeros(())
    squares: NDArray[np.float64] = np.zeros(())
    for start in range(0, examples.size, _BLOCK):
        indices = np.arange(start, min(start + _BLOCK, examples.size))
        block = _numbers(examples.fetch(indices)[0])
        # Blocks are merged by their means: sums of squares alone would cancel for values that are
        # large beside their spread.
        added, own = len(block), block.mean(axis=0)
        apart = own - mean
        count += added
        squares = squares + ((block - own) ** 2).sum(axis=0)
        squares = squares + apart**2 * ((count - added) * added / count)
        mean = mean + apart * (added / count)
    return mean.astype(np.float32), (squares / count).astype(np.float32)


def _numbers(features: object) -> NDArray[np.float64]:
    if not tf.is_tensor(features) or features.dtype == tf.string:  # type: ignore[attr-defined]
        raise DataError(
            "moments: the features are not one array of numbers; take the moments of examples "
            "whose features are, and build the Normalization layers from them"
        )
    return np.asarray(features, np.float64)
