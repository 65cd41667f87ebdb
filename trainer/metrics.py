"""Loss and metrics that are right over all workers.

A metric's state is a sum over examples: the states of single steps, computed from zero on each
replica, are added up over steps and replicas, and the metric reads its result from the total.
Everything travels in one flat vector: [loss sum, weight sum, state of each metric ...].
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.task import TaskError

Vector = npt.NDArray[np.float64]


def per_example(loss: Any) -> Callable[[Any, Any], Any]:
    """Return the loss as a function (labels, outputs) -> float32[k]. Raises TaskError."""
    raw, name = _unreduced(loss)

    def function(labels: Any, outputs: Any) -> Any:
        values = tf.cast(raw(labels, outputs), tf.float32)
        if values.shape.rank == 0:
            raise TaskError(
                f"the loss {name!r} gives one number for the whole batch; it must give one for "
                "each example (leave out the mean over the batch)"
            )
        if values.shape.rank is not None and values.shape.rank > 1:
            values = tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))
        return values

    return function


def check_loss(loss: Any, labels: Any, outputs: Any) -> None:
    """Refuse, over a sample, a loss that is not one number an example. Raises TaskError.

    It also must not depend on which examples share a batch, or the result would depend on the
    number of workers. What this finds most is a broadcast of labels against outputs.
    """
    raw, name = _unreduced(loss)
    function = per_example(loss)
    losses = function(labels, outputs)
    count = tf.nest.flatten(labels)[0].shape[0]
    if losses.shape != [count]:
        raise TaskError(
            f"the loss gives shape {tuple(losses.shape)} for {count} examples; it must give "
            "one number for each"
        )
    first = tf.nest.map_structure(lambda t: t[:1], (labels, outputs))
    together, alone = raw(labels, outputs), raw(*first)
    same = together.shape[1:] == alone.shape[1:] and np.allclose(
        losses[0], function(*first)[0], rtol=1e-2, atol=1e-4, equal_nan=True
    )
    if not same:
        shapes = [tuple(t.shape) for t in tf.nest.flatten((labels, outputs))]
        raise TaskError(
            f"the loss {name!r} of an example depends on the others of its batch; compute it from "
            "its own row alone. Labels and outputs have the shapes "
            f"{' and '.join(map(str, shapes))}: where one lacks an axis, give it one, or write "
            "outputs[:, 0]"
        )


def _unreduced(loss: Any) -> tuple[Callable[[Any, Any], Any], str]:
    """Return the loss as a function that takes no mean over the batch, and its name."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        loss = copy.copy(loss)
        loss.reduction = "none"
    if not callable(loss):
        raise TaskError(
            f"Task.loss must be a Keras loss, its name, or a function (labels, outputs), "
            f"not {type(loss).__name__}"
        )
    name = getattr(loss, "name", None) or getattr(loss, "__name__", type(loss).__name__)
    return loss, str(name)


def resolve(metric: Any, *, labels: Any, outputs: Any, from_logits: bool) -> Any:
    """Return a Keras metric for what the user wrote. Raises TaskError."""
    if isinstance(metric, str):
        if metric in ("accuracy", "acc"):
            return _accuracy(labels, outputs, from_logits)
        try:
            metric = keras.metrics.get(metric)
        except ValueError as error:
            raise TaskError(f"Task.metrics: Keras knows no metric {metric!r}") from error
    if isinstance(metric, keras.metrics.Metric):
        return metric
    if inspect.isclass(metric) and issubclass(metric, keras.metrics.Metric):
        return metric()
    if callable(metric):
        return keras.metrics.MeanMetricWrapper(metric, name=getattr(metric, "__name__", "metric"))
    raise TaskError(
        f"Task.metrics must hold Keras metrics, their names, or functions (labels, outputs), "
        f"not {type(metric).__name__}"
    )


def _accuracy(labels: Any, outputs: Any, from_logits: bool) -> Any:
    """Choose the accuracy that fits the shapes, as Keras does."""
    if outputs.shape[-1] == 1:
        return keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if from_logits else 0.5)
    if labels.shape.rank == outputs.shape.rank and labels.shape[-1] == outputs.shape[-1]:
        return keras.metrics.CategoricalAccuracy(name="accuracy")
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


class Measures:
    """The loss and all metrics of a task as one additive vector."""

    def __init__(self, metrics: Sequence[Any], *, labels: Any, outputs: Any) -> None:
        """Take metrics over a sample of at least two examples, to learn and check their states.

        Raises TaskError for a metric whose state cannot be added up over workers.
        """
        self._metrics = list(metrics)
        for metric in self._metrics:
            _check_additive(metric, labels, outputs)
        self._shapes = [[tuple(v.shape) for v in m.variables] for m in self._metrics]
        self.size = 2 + sum(math.prod(s) for shapes in self._shapes for s in shapes)

    def of_step(self, labels: Any, outputs: Any, loss_sum: Any, weights: Any) -> Any:
        """Return this replica's part of one step as float64[size]. Graph-safe."""
        parts = [loss_sum, tf.reduce_sum(weights)]
        for metric in self._metrics:
            zeros = [tf.zeros(v.shape, v.dtype) for v in metric.variables]
            parts += metric.stateless_update_state(zeros, labels, outputs, sample_weight=weights)
        return tf.concat([tf.reshape(tf.cast(p, tf.float64), [-1]) for p in parts], axis=0)

    def loss(self, total: Vector) -> float:
        """Return the loss for the sum of any number of vectors."""
        return float(total[0] / total[1]) if total[1] else float("nan")

    def results(self, total: Vector) -> dict[str, float]:
        """Return loss and metrics by name for the sum of any number of vectors. Takes a
        millisecond or more: Keras computes them."""
        named = {"loss": self.loss(total)}
        at = 2
        for metric, shapes in zip(self._metrics, self._shapes, strict=True):
            for variable, shape in zip(metric.variables, shapes, strict=True):
                size = math.prod(shape)
                variable.assign(total[at : at + size].reshape(shape).astype(variable.dtype))
                at += size
            named.update(_scalars(metric.name, metric.result()))
        return named


def _scalars(name: str, result: Any) -> dict[str, float]:
    if isinstance(result, Mapping):
        return {k: v for key, part in result.items() for k, v in _scalars(str(key), part).items()}
    values = np.asarray(keras.ops.convert_to_numpy(result), np.float64).reshape(-1)
    if values.size == 1:
        return {name: float(values[0])}
    return {f"{name}_{i}": float(v) for i, v in enumerate(values)}


def _check_additive(metric: Any, labels: Any, outputs: Any) -> None:
    """Show on two examples that states add up; no metric says so of itself."""
    first, second, both = (
        _state(metric, tf.nest.map_structure(lambda t, p=part: t[p], (labels, outputs)))
        for part in (slice(0, 1), slice(1, 2), slice(0, 2))
    )
    metric.reset_state()
    zero = [np.asarray(v) for v in metric.variables]
    sums = [a + b for a, b in zip(first, second, strict=True)]
    if any(np.any(z != 0) for z in zero) or not all(
        np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(sums, both, strict=True)
    ):
        raise TaskError(
            f"the metric {metric.name!r} keeps a state that cannot be added up over workers; "
            "use one whose state is a sum, such as keras.metrics.Mean and what derives from it"
        )


def _state(metric: Any, sample: tuple[Any, Any]) -> list[Any]:
    """Return the metric's state after one sample. Metrics may build themselves here."""
    if metric.variables:
        metric.reset_state()
    count = tf.nest.flatten(sample[1])[0].shape[0]
    metric.update_state(*sample, sample_weight=tf.ones([count]))
    return [np.array(v) for v in metric.variables]
