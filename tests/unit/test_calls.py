"""Calls say how long they waited for input."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.calls import Calls
from trainer.progress import Pace

SLEEP_S = 0.02


def calls(dataset: tf.data.Dataset) -> Calls:
    """Return calls of a step that adds up its batch."""
    return Calls(
        tf.distribute.get_strategy(),
        iter(dataset),
        lambda batch, number: tf.cast(batch, tf.float64),
        size=1,
        blocks=2,
        block_steps=4,
        is_chief=True,
    )


def slow(number: Any) -> Any:
    """Take as long as a disk that is too slow."""

    def read(value: np.int64) -> np.int64:
        time.sleep(SLEEP_S)
        return value

    return tf.ensure_shape(tf.numpy_function(read, [number], tf.int64), [1])


def test_input_that_is_slow_is_what_a_call_waits_for() -> None:
    made = calls(tf.data.Dataset.range(100).batch(1).map(slow))
    called = made(0, 8, stop=False)
    assert 8 * SLEEP_S <= called.starved_s <= called.seconds
    assert called.sums.tolist() == [[0 + 1 + 2 + 3], [4 + 5 + 6 + 7]]


def test_progress_says_which_share_of_the_time_it_was() -> None:
    pace = Pace(total_steps=100, global_batch=10)
    pace.called(1, 60.0, 59.0)  # compiles
    pace.called(4, 3.0, 0.5)
    pace.called(4, 1.0, 0.5)
    assert pace.progress(9, 0.1, {"loss": 1.0}).starved_fraction == 0.25
    assert pace.progress(9, 0.1, {"loss": 1.0}).starved_fraction == 0.0
