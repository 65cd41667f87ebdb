"""Callbacks that decide, write and restore."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.training.features.base import (
    BATCH,
    Scope,
    compiled,
    feature,
    found,
    network,
    rows,
    trained,
)


@feature
def callbacks_that_decide(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    callbacks = [
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=1, min_delta=0.5),
        keras.callbacks.EarlyStopping("val_loss", patience=2, min_delta=0.5, start_from_epoch=1),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.TerminateOnNaN(),
    ]
    return trained(
        scope, x=x, y=y, fit_epochs=8, fit_validation_data=rows(21), fit_callbacks=callbacks
    )


@feature
def callbacks_that_write(scope: Scope, folder: Path) -> dict[str, Any]:
    callbacks = [
        keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras", save_best_only=True),
        keras.callbacks.ModelCheckpoint(folder / "last.weights.h5", save_weights_only=True),
        keras.callbacks.CSVLogger(folder / "log.csv"),
        keras.callbacks.TensorBoard(folder / "curves", histogram_freq=1, update_freq=1),
    ]
    x, _ = rows(21)
    # To predict takes all members, so whoever is through it finds what the chief has written.
    result = trained(scope, ask=x, fit_validation_data=rows(21), fit_callbacks=callbacks)
    saved = keras.models.load_model(folder / "2.keras") if (folder / "2.keras").exists() else None
    table = np.genfromtxt(folder / "log.csv", delimiter=",", skip_header=1)
    return {
        **result,
        "table": table,
        **{f"saved {i}": w for i, w in enumerate(saved.get_weights() if saved else [])},
        "files": sorted(float(p.stat().st_size > 0) for p in folder.rglob("*") if p.is_file()),
    }


class Interrupted(Exception):
    """What ends a training in the middle."""


class _Interrupt(keras.callbacks.Callback):  # type: ignore[misc]
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 2:
            raise Interrupted


@feature
def a_backup_that_is_restored(scope: Scope, folder: Path) -> dict[str, Any]:
    x, y = rows(37)
    for callbacks in ([_Interrupt()], []):
        backup = keras.callbacks.BackupAndRestore(folder / "backup")
        keras.utils.set_random_seed(7)
        with scope():
            model = compiled(network())
        with contextlib.suppress(Interrupted):
            history = model.fit(
                x,
                y,
                batch_size=BATCH,
                epochs=4,
                shuffle=False,
                verbose=0,
                callbacks=[backup, *callbacks],
            )
    return found(model, history, epochs=history.epoch)
