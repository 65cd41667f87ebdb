"""What the features share: their registry, rows, a network, and how one is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

Scope = Callable[[], contextlib.AbstractContextManager[Any]]
Feature = Callable[[Scope, Path], dict[str, Any]]

BATCH = 8
FEATURES: dict[str, Feature] = {}


def feature(function: Feature) -> Feature:
    """Let a function be run by the tests."""
    FEATURES[function.__name__] = function
    return function


def rows(count: int = 40) -> tuple[Any, Any]:
    """Return features float32[count, 6] and classes int64[count] that can be learned."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, count)
    x = rng.normal(size=(count, 6)) + labels[:, None]
    return x.astype("float32"), labels


def network(*layers: Any) -> Any:
    """Return a small classifier with these layers in its middle."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            *layers,
            keras.layers.Dense(3),
        ]
    )


def compiled(model: Any, **options: Any) -> Any:
    """Compile with a loss, a metric and an optimizer, made here and now; return the model."""
    make: Callable[[], Any] = options.pop("optimizer", lambda: keras.optimizers.Adam(0.01))
    settings: dict[str, Any] = {
        "optimizer": make(),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }
    model.compile(**{**settings, **options})
    return model


def found(model: Any, history: Any, x: Any = None, **more: Any) -> dict[str, Any]:
    """Return what is to be the same: history, weights, and predictions for x if it is given."""
    if x is not None:
        more["prediction"] = model.predict(x, batch_size=BATCH, verbose=0)
    return {
        **{f"history {name}": values for name, values in history.history.items()},
        **{f"weight {i}": w for i, w in enumerate(model.get_weights())},
        **more,
    }


def trained(scope: Scope, *layers: Any, x: Any = None, y: Any = None, **options: Any) -> Any:
    """Build, compile, fit and return the findings; `fit_` options go to fit, `ask` to predict."""
    fit = {name[4:]: options.pop(name) for name in list(options) if name.startswith("fit_")}
    ask = options.pop("ask", None)
    if x is None:
        x, y = rows()
    with scope():
        model = compiled(network(*[layer() for layer in layers]), **options)
    fit = {"batch_size": BATCH, "epochs": 2, "verbose": 0, **fit}
    return found(model, model.fit(x, y, **fit), ask)
