"""What optimizers do with gradients and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from tests.training.features.base import Scope, feature, rows, trained


@feature
def moving_average_of_weights(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(
        scope, optimizer=lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8)
    )


@feature
def moving_average_that_overwrites(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(
        scope,
        optimizer=lambda: keras.optimizers.SGD(
            0.1, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=2
        ),
    )


@feature
def clipped_gradients(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    return trained(scope, x=x, y=y, optimizer=lambda: keras.optimizers.SGD(0.1, clipnorm=0.05))


@feature
def accumulated_gradients(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(
        scope, optimizer=lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)
    )


@feature
def weight_decay(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, optimizer=lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1))


@feature
def learning_rate_schedule(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(
        scope,
        optimizer=lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(0.1, 10), momentum=0.9
        ),
    )
