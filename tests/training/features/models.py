"""Models that are more than layers in a row, and steps of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tests.training.features.base import BATCH, Scope, compiled, feature, found, network, rows


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model that is built by its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(8, activation="relu")
        self.last = keras.layers.Dense(3)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.last(self.hidden(inputs))


@feature
def subclassed_model(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    with scope():
        model = compiled(Subclassed())
    return found(model, model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0), x)


class WithOwnStep(Subclassed):
    """A step as Keras' guide writes it, for one process."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=(y_pred := self(x, training=True)))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(y)[0])
            else:
                metric.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


@feature
def own_train_step(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    with scope():
        model = compiled(WithOwnStep())
    return found(model, model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0))


class WithOwnLooks(Subclassed):
    """Steps of evaluation and prediction as Keras' guide writes them."""

    def test_step(self, data: Any) -> Any:
        x, y = data
        y_pred = self(x, training=False)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        return self.compute_metrics(x, y, y_pred) | {"doubled": 2 * loss}

    def predict_step(self, data: Any) -> Any:
        return tf.nn.softmax(self(data, training=False))


@feature
def own_steps_of_evaluation_and_prediction(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(32)
    with scope():
        model = compiled(WithOwnLooks())
    history = model.fit(x, y, batch_size=BATCH, validation_data=(x, y), verbose=0)
    return found(model, history, x)


class WithOwnLoss(Subclassed):
    """A loss that Keras knows nothing of, and a log that no metric keeps."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            error = self(x, training=True)[:, 0] - tf.cast(y, tf.float32)
            loss = tf.reduce_mean(error**2)
        gradients = tape.gradient(loss, self.trainable_variables)
        pairs = zip(gradients, self.trainable_variables, strict=True)
        self.optimizer.apply_gradients((g, v) for g, v in pairs if g is not None)
        return {"squared": loss, "worst": tf.reduce_mean(tf.abs(error))}


@feature
def own_loss(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(33)
    with scope():
        model = compiled(WithOwnLoss(), metrics=None)
    return found(model, model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0))


@feature
def a_loss_for_a_strategy(scope: Scope, _: Path) -> dict[str, Any]:
    """What the guides to tf.distribute tell to write: the sum over the global batch's size."""

    class Averaged(WithOwnLoss):
        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                error = self(x, training=True)[:, 0] - tf.cast(y, tf.float32)
                loss = tf.nn.compute_average_loss(error**2, global_batch_size=BATCH)
            gradients = tape.gradient(loss, self.trainable_variables)
            pairs = zip(gradients, self.trainable_variables, strict=True)
            self.optimizer.apply_gradients((g, v) for g, v in pairs if g is not None)
            return {"average": loss}

    x, y = rows()
    with scope():
        model = compiled(Averaged(), metrics=None)
    return found(model, model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0))


@feature
def one_batch_at_a_time(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows()
    with scope():
        model = compiled(network())
    logs = [model.train_on_batch(x[i : i + 8], y[i : i + 8]) for i in range(0, 40, 8)]
    return {
        "logs": [[float(v) for v in pair] for pair in logs],
        "test": [float(v) for v in model.test_on_batch(x, y)],
        "prediction": model.predict_on_batch(x),
        **{f"weight {i}": w for i, w in enumerate(model.get_weights())},
    }
