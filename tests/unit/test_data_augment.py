"""Augmentation of photos: what is drawn, and that it belongs to the example alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from trainer import data
from trainer.data import augment


def seeds(number: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).integers(-(2**31), 2**31, (number, 2)), tf.int32)


def ramp(number: int, size: int = 32) -> tf.Tensor:
    """Return pictures that grow brighter from left to right."""
    row = np.linspace(0, 255, size).astype(np.uint8)
    return tf.constant(np.broadcast_to(row[None, None, :, None], (number, size, size, 3)))


def varied(number: int, **settings) -> np.ndarray:
    vary = data.vary_photos(size=(16, 16), **settings)
    pictures, labels = vary(ramp(number), tf.range(number), seeds(number))
    assert labels.numpy().tolist() == list(range(number))
    assert pictures.dtype == tf.uint8
    return pictures.numpy()


def test_draws_are_even_and_independent() -> None:
    drawn = augment.uniform(seeds(20_000), 3).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(3), atol=0.03)


def test_a_picture_depends_on_its_own_seed_alone() -> None:
    vary = data.vary_photos(size=(16, 16))
    pictures, rows = ramp(6), seeds(6)
    together, _ = vary(pictures, tf.range(6), rows)
    alone, _ = vary(pictures[3:4], tf.range(1), rows[3:4])
    np.testing.assert_array_equal(together[3:4], alone)
    assert len({picture.tobytes() for picture in together.numpy()}) == 6


def test_half_are_mirrored_or_none() -> None:
    rising = [picture[8, 15, 0] > picture[8, 0, 0] for picture in varied(400)]
    assert sum(rising) == pytest.approx(200, abs=40)
    assert all(p[8, 15, 0] > p[8, 0, 0] for p in varied(50, mirror=False).astype(int))


def test_crops_are_as_large_as_asked_and_light_as_weak() -> None:
    whole = varied(50, smallest=1, stretch=1, mirror=False, light=0).astype(int)
    expected = tf.image.resize(ramp(1), (16, 16)).numpy()[0]
    assert np.abs(whole - expected).max() <= 17
    crops = varied(400, smallest=0.25, stretch=1, mirror=False, light=0).astype(int)
    spans = (crops[:, 0, -1, 0] - crops[:, 0, 0, 0]) / 255
    # A quarter of the area is half of the width.
    assert spans.min() > 0.42
    assert spans.max() > 0.9


def test_what_cannot_be_meant_is_refused() -> None:
    for settings in ({"smallest": 0}, {"smallest": 1.5}, {"stretch": 0.5}, {"light": 1}):
        ((name, _),) = settings.items()
        with pytest.raises(data.DataError, match=f"^{name}="):
            data.vary_photos(size=(4, 4), **settings)
