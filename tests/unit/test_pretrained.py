"""Weights that a user brings, and who computes what of a frozen part."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from trainer import frozen, pretrained
from trainer.task import TaskError

# Keras, when it saves weights.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def network(units: int = 3) -> keras.Model:
    layers = [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(units)]
    return keras.Sequential(layers, name="little")


@pytest.mark.parametrize("ending", ["weights.h5", "keras", "h5"])
def test_weights_are_put_in(tmp_path: Path, ending: str) -> None:
    brought, file = network(), tmp_path / f"mine.{ending}"
    if ending == "weights.h5":
        brought.save_weights(file)
    else:
        brought.save(file)
    model = pretrained.load_weights(network(), file)
    for one, other in zip(model.variables, brought.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def spoiled(folder: Path, how: str) -> Path:
    file = folder / "mine.weights.h5"
    network(4 if how == "another network" else 3).save_weights(file)
    content = file.read_bytes()
    if how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "text":
        file.write_text("no weights")
    return file


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "another network"])
def test_a_file_that_cannot_be_used_is_named_and_changes_nothing(tmp_path: Path, how: str) -> None:
    file = spoiled(tmp_path, how)
    model = network()
    before = [variable.numpy() for variable in model.variables]
    with pytest.raises(TaskError, match=f"weights file {file} cannot be used for little: "):
        pretrained.load_weights(model, file)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"weights file .*gone\.h5 does not exist; name a file"):
        pretrained.load_weights(network(), tmp_path / "gone.h5")
    with pytest.raises(TaskError, match=f"weights file {tmp_path} is a folder"):
        pretrained.load_weights(network(), tmp_path)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_worker_passes_all_chunks_its_own_first(workers: int) -> None:
    orders = [list(frozen._order(10, position, workers)) for position in range(workers)]
    for order in orders:
        assert sorted(order) == list(range(10))
    assert len({order[0] for order in orders}) == workers
