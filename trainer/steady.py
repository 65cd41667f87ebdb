"""Lets an iterator of tf.data end at once."""

from __future__ import annotations

import tensorflow as tf


def options() -> tf.data.Options:
    """Return options in which only the tuner of pipelines is set: it is off.

    An iterator that ends waits for the thread that tunes its pipeline. TensorFlow 2.21 wakes that
    thread a moment before it marks the iterator as ended (`CancellationManager`), so the thread may
    look too early and sleep on: as long as it has run before, up to a minute. With two cores one
    end in eight does. Untuned, AUTOTUNE means a call for each core, and prefetching still finds
    its own depth.
    """
    chosen = tf.data.Options()
    chosen.autotune.enabled = False
    return chosen


def steady(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return the data set without the tuner, unless its own options say whether it is on."""
    if dataset.options().autotune.enabled is None:
        return dataset.with_options(options())
    return dataset
