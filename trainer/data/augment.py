"""Ready-made augmentation of photos: other crops, mirrored, in another light.

    photos.augment(data.vary_photos(size=(96, 96), smallest=0.4))

What is drawn for an example is a function of its row of `seeds` alone, as `Examples.augment` asks,
and a whole batch is computed at once: an operation an example would cost more than the pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trainer.data.errors import DataError
from trainer.data.mixing import mix, mix_tensor

# Weights of red, green and blue in the brightness of a pixel, as of ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


def vary_photos(
    *,
    size: tuple[int, int],
    smallest: float = 0.4,
    stretch: float = 4 / 3,
    mirror: bool = True,
    light: float = 0.2,
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Return a function for `Examples.augment` of pictures (uint8[height, width, channels]).

    Each picture becomes a crop of it, resized to `size` (height, width): at least `smallest` of
    its area, its sides in a ratio changed by at most the factor `stretch`; with `mirror` half of
    them mirrored; brightness, contrast and (of 3 channels) saturation each changed by at most the
    factor 1 +- `light`.
    """
    if not 0 < smallest <= 1:
        raise DataError(f"smallest={smallest}: give a share of the area above 0 and at most 1")
    if stretch < 1:
        raise DataError(f"stretch={stretch}: give a factor of at least 1")
    if not 0 <= light < 1:
        raise DataError(f"light={light}: give a factor of at least 0 and below 1")

    def vary(pictures: Any, labels: Any, seeds: Any) -> tuple[Any, Any]:
        drawn = tf.unstack(uniform(seeds, 8), axis=1)
        boxes = _boxes(*drawn[:5], smallest=smallest, stretch=stretch, mirror=mirror)
        cropped = tf.image.crop_and_resize(pictures, boxes, tf.range(tf.shape(boxes)[0]), size)
        if light:
            cropped = _lit(cropped, *(1 - light + 2 * light * u for u in drawn[5:]))
        return tf.saturate_cast(tf.round(cropped), pictures.dtype), labels

    return vary


def uniform(seeds: Any, count: int) -> Any:
    """Return float32[k, count] in [0, 1) out of seeds (int32[k, 2], from `Examples.augment`)."""
    keys = tf.bitcast(seeds, tf.uint64)[:, tf.newaxis]
    salts = tf.constant([[mix(i) for i in range(count)]], tf.uint64)
    bits = tf.bitwise.right_shift(
        mix_tensor(tf.bitwise.bitwise_xor(keys, salts)), tf.constant(40, tf.uint64)
    )
    return tf.cast(bits, tf.float32) * 2.0**-24


def _boxes(
    area: Any,
    ratio: Any,
    top: Any,
    left: Any,
    side: Any,
    *,
    smallest: float,
    stretch: float,
    mirror: bool,
) -> Any:
    """Return float32[k, 4]: y1, x1, y2, x2 of a crop, in parts of the picture, from draws.

    A box whose x1 is on the right gives a mirrored crop.
    """
    area = smallest + (1 - smallest) * area
    ratio = tf.pow(stretch, ratio - 0.5)
    height = tf.minimum(tf.sqrt(area) * ratio, 1.0)
    width = tf.minimum(tf.sqrt(area) / ratio, 1.0)
    y1, x1 = top * (1 - height), left * (1 - width)
    y2, x2 = y1 + height, x1 + width
    if mirror:
        x1, x2 = tf.where(side < 0.5, x1, x2), tf.where(side < 0.5, x2, x1)
    return tf.stack([y1, x1, y2, x2], axis=1)


def _lit(pictures: Any, brightness: Any, contrast: Any, saturation: Any) -> Any:
    """Return pictures (float32) with each of the three multiplied by a factor a picture."""

    def each(factor: Any) -> Any:
        return factor[:, tf.newaxis, tf.newaxis, tf.newaxis]

    pictures *= each(brightness)
    mean = tf.reduce_mean(pictures, axis=(1, 2, 3), keepdims=True)
    pictures = mean + (pictures - mean) * each(contrast)
    if pictures.shape[-1] != len(_LUMA):
        return pictures
    grey = tf.reduce_sum(pictures * tf.constant(_LUMA), axis=-1, keepdims=True)
    return grey + (pictures - grey) * each(saturation)
