"""What is added up over the rows: losses, their weights, masks and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.training.features.base import BATCH, Scope, compiled, feature, found, rows, trained


@feature
def sample_weights(scope: Scope, _: Path) -> dict[str, Any]:
    weights = np.linspace(0, 2, 40).astype("float32")
    return trained(
        scope,
        fit_sample_weight=weights,
        metrics=[],
        weighted_metrics=["accuracy"],
    )


@feature
def sample_weights_normalized(scope: Scope, _: Path) -> dict[str, Any]:
    weights = np.linspace(0, 2, 37).astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    x, y = rows(37)
    return trained(scope, x=x, y=y, loss=loss, fit_sample_weight=weights)


@feature
def class_weights(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, fit_class_weight={0: 1.0, 1: 3.0, 2: 0.5})


@feature
def a_loss_that_is_a_sum(scope: Scope, _: Path) -> dict[str, Any]:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    x, y = rows(37)
    return trained(scope, x=x, y=y, loss=loss)


@feature
def masked_sequences(scope: Scope, _: Path) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    words = rng.integers(1, 9, (37, 5)) * (rng.random((37, 5)) < np.linspace(0.2, 1, 37)[:, None])
    with scope():
        model = keras.Sequential(
            [
                keras.Input((5,), dtype="int32"),
                keras.layers.Embedding(9, 4, mask_zero=True),
                keras.layers.Dense(2),
            ]
        )
        model = compiled(model, metrics=["accuracy"])
    history = model.fit(words, words % 2, batch_size=BATCH, epochs=2, verbose=0)
    return found(model, history)


@feature
def several_inputs_and_outputs(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(33)
    with scope():
        left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
        both = keras.layers.Concatenate()([left, right])
        kind = keras.layers.Dense(3, name="kind")(both)
        size = keras.layers.Dense(1, name="size")(both)
        model = keras.Model({"left": left, "right": right}, {"kind": kind, "size": size})
        model.compile(
            keras.optimizers.Adam(0.01),
            loss={
                "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                "size": "mse",
            },
            loss_weights={"kind": 1.0, "size": 0.3},
            metrics={"kind": ["accuracy"], "size": ["mae"]},
        )
    inputs = {"left": x[:, :3], "right": x[:, 3:]}
    targets = {"kind": y, "size": x.sum(axis=1)}
    history = model.fit(inputs, targets, batch_size=BATCH, epochs=2, verbose=0)
    predictions = model.predict(inputs, batch_size=BATCH, verbose=0)
    return {
        **{f"history {name}": values for name, values in history.history.items()},
        **{f"prediction {name}": values for name, values in predictions.items()},
        **{f"weight {i}": w for i, w in enumerate(model.get_weights())},
    }


@feature
def regularizers_and_added_losses(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    return trained(
        scope,
        lambda: keras.layers.Dense(8, kernel_regularizer="l2"),
        lambda: keras.layers.ActivityRegularization(l1=0.01),
        x=x[:32],
        y=y[:32],
    )


@feature
def metrics_with_a_large_state(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    with scope():
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, activation="sigmoid")])
        metrics = [keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="precision")]
        model = compiled(model, loss="binary_crossentropy", metrics=metrics)
    history = model.fit(x, (y > 0).astype("float32")[:, None], batch_size=BATCH, verbose=0)
    return found(model, history)
