"""How steps are carried out, and the layers that know of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.training.features.base import BATCH, Scope, compiled, feature, network, rows, trained


@feature
def several_steps_an_execution(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, steps_per_execution=2, fit_validation_data=rows(21), ask=rows()[0])


@feature
def more_steps_an_execution_than_there_are(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    return trained(scope, x=x, y=y, steps_per_execution=20)


@feature
def jit_compile(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, jit_compile=True)


@feature
def run_eagerly(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, run_eagerly=True, fit_epochs=1, ask=rows(9)[0])


@feature
def synchronized_batch_normalization(scope: Scope, _: Path) -> dict[str, Any]:
    layer = keras.layers.BatchNormalization
    return trained(scope, lambda: layer(synchronized=True), fit_validation_data=rows(21))


@feature
def batch_normalization(scope: Scope, _: Path) -> dict[str, Any]:
    """Each worker normalizes its own rows, so they are like the others' here: every batch is
    four rows twice."""
    x, y = (np.concatenate([part, part], axis=1) for part in _quartets())
    return trained(
        scope,
        keras.layers.BatchNormalization,
        x=x.reshape(-1, 6),
        y=y.reshape(-1),
        fit_shuffle=False,
        fit_validation_data=rows(21),
    )


def _quartets() -> tuple[Any, Any]:
    """Return rows float32[5, 4, 6] and classes int64[5, 4]."""
    x, y = rows(20)
    return x.reshape(5, 4, 6), y.reshape(5, 4)


@feature
def dropout(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    return trained(scope, lambda: keras.layers.Dropout(0.5, seed=3), x=x, y=y)


@feature
def spatial_dropout(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(
        scope,
        lambda: keras.layers.Reshape((2, 4)),
        lambda: keras.layers.SpatialDropout1D(0.3, seed=3),
        keras.layers.Flatten,
    )


@feature
def mixed_precision(scope: Scope, _: Path) -> dict[str, Any]:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return trained(scope, ask=rows()[0])
    finally:
        keras.mixed_precision.set_global_policy("float32")


@feature
def an_overflow_on_one_worker(scope: Scope, _: Path) -> dict[str, Any]:
    """A row whose gradients overflow: all skip the step and halve the scale, or all wait."""
    x, y = rows()
    x[3] = 1e38
    with scope():
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01))
        model = compiled(network(), optimizer=lambda: optimizer)
    model.fit(x, y, batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    return {
        "scale": optimizer.dynamic_scale.numpy(),
        **{f"weight {i}": w for i, w in enumerate(model.get_weights())},
    }
