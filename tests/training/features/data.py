"""Where the rows come from, and which of them are evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tests.training.features.base import BATCH, Scope, compiled, feature, network, rows, trained


@feature
def arrays(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, ask=rows()[0])


@feature
def arrays_in_order(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, fit_shuffle=False)


@feature
def a_last_batch_that_does_not_divide(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    return trained(scope, x=x, y=y)


@feature
def a_last_batch_of_one_row(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(33)
    return trained(scope, x=x, y=y, ask=x)


def stream(count: int = 40, **weights: Any) -> Any:
    """Return an unbatched tf.data set of rows."""
    return tf.data.Dataset.from_tensor_slices((*rows(count), *weights.values()))


@feature
def tf_data(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, x=stream().shuffle(40, seed=1).batch(BATCH), fit_batch_size=None)


@feature
def tf_data_of_unknown_length(scope: Scope, _: Path) -> dict[str, Any]:
    data = stream(37).filter(lambda x, y: y < 3).repeat().batch(BATCH)
    return trained(scope, x=data, fit_batch_size=None, fit_steps_per_epoch=4, fit_epochs=3)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Global batches, one by one."""

    def __init__(self, count: int = 40, **options: Any) -> None:
        super().__init__(**options)
        self.x, self.y = rows(count)

    def __len__(self) -> int:
        return -(-len(self.x) // BATCH)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        part = slice(number * BATCH, (number + 1) * BATCH)
        return self.x[part], self.y[part]


@feature
def py_dataset(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, x=Batches(37), fit_batch_size=None, fit_shuffle=True)


@feature
def py_dataset_with_threads(scope: Scope, _: Path) -> dict[str, Any]:
    data = Batches(workers=2, max_queue_size=4)
    return trained(scope, x=data, fit_batch_size=None, fit_shuffle=False)


@feature
def generator(scope: Scope, _: Path) -> dict[str, Any]:
    def batches() -> Iterator[tuple[Any, Any]]:
        data = Batches()
        while True:
            for number in range(len(data)):
                yield data[number]

    return trained(scope, x=batches(), fit_batch_size=None, fit_steps_per_epoch=4)


@feature
def validation_data(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, fit_validation_data=rows(21), fit_validation_batch_size=4)


@feature
def validation_split(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, fit_validation_split=0.3)


@feature
def evaluation(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    with scope():
        metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")]
        model = compiled(network(), metrics=metrics)
    before = model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
    after = model.evaluate(stream(29).batch(BATCH), verbose=0, return_dict=True)
    return {"before": list(before.values()), "after": list(after.values())}


@feature
def prediction(scope: Scope, _: Path) -> dict[str, Any]:
    x, _y = rows(37)
    with scope():
        model = compiled(network())
    data = Batches(37)
    unlabelled = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)
    return {
        "arrays": model.predict(x, batch_size=BATCH, verbose=0),
        "tf.data": model.predict(unlabelled, verbose=0),
        "py_dataset": model.predict(data, verbose=0),
        "some steps": model.predict(unlabelled.repeat(), steps=3, verbose=0),
    }
