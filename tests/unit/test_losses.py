"""What is accepted as a loss: one number for each example, from its own row alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

from trainer import metrics
from trainer.task import TaskError

LABELS = tf.constant([1.0, 0.0, 1.0, 0.0])
OUTPUTS = tf.constant([[0.5], [0.75], [0.25], [0.125]])


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param("mse", id="name"),
        pytest.param(keras.losses.BinaryCrossentropy(), id="keras"),
        pytest.param(lambda y, o: abs(o[:, 0] - y), id="function"),
        pytest.param(lambda y, o: (o - y[:, tf.newaxis]) ** 2, id="function, one column"),
        pytest.param(lambda y, o: tf.repeat(o - y[:, tf.newaxis], 4, axis=1), id="as many columns"),
        pytest.param(lambda y, o: 0.0 * y / 0.0, id="not a number"),
    ],
)
def test_a_loss_of_each_example_is_taken(loss: Any) -> None:
    metrics.check_loss(loss, LABELS, OUTPUTS)


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(lambda y, o: (o - y) ** 2, id="broadcast"),
        pytest.param(lambda y, o: abs(o[:, 0] - tf.reduce_mean(y)), id="mean of the batch"),
        pytest.param(lambda y, o: tf.nn.softmax(o[:, 0]) * y, id="softmax over the batch"),
    ],
)
def test_a_loss_that_mixes_examples_is_refused(loss: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(TaskError, match=r"depends on the others .* \(4,\) and \(4, 1\)"):
        metrics.check_loss(loss, LABELS, OUTPUTS)


def test_labels_that_are_all_alike_hide_no_broadcast() -> None:
    alike = tf.ones([4])
    with pytest.raises(TaskError, match="depends on the others"):
        metrics.check_loss(lambda y, o: (o - y) ** 2, alike, tf.ones([4, 1]))


def test_one_number_for_the_batch_is_refused() -> None:
    with pytest.raises(TaskError, match="gives one number for the whole batch"):
        metrics.check_loss(lambda y, o: tf.reduce_mean(o), LABELS, OUTPUTS)
