"""Means and variances of examples."""

from __future__ import annotations

import numpy as np
import pytest

from trainer import data


def test_blocks_give_what_all_at_once_gives() -> None:
    # More than two blocks, and large beside their spread, where sums of squares would cancel.
    x = np.random.default_rng(0).normal(1e4, 0.1, (20_000, 3)) * [1, -1, 0]
    mean, variance = data.moments(data.arrays(x, np.zeros(len(x))))
    stored = x.astype("float32").astype("float64")
    assert mean.dtype == variance.dtype == np.float32
    np.testing.assert_allclose(mean, stored.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, stored.var(axis=0), rtol=1e-5)


def test_a_part_has_its_own_moments() -> None:
    examples = data.arrays(np.array([[1.0], [3.0], [100.0]]), np.zeros(3))
    mean, variance = data.moments(examples.take(2))
    assert (mean.tolist(), variance.tolist()) == ([2.0], [1.0])


@pytest.mark.parametrize(
    "features",
    [
        pytest.param({"a": np.zeros(3), "b": np.zeros(3)}, id="several"),
        pytest.param(np.array(["x", "y", "z"]), id="text"),
    ],
)
def test_what_has_no_moments_says_so(features: object) -> None:
    with pytest.raises(data.DataError, match="not one array of numbers"):
        data.moments(data.arrays(features, np.zeros(3)))
