"""What TensorBoard is given besides curves is what TensorBoard reads."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer import data, export, insights, snapshot
from trainer.learner import Learner
from trainer.progress import Curves
from trainer.task import ImageInput, Task


@pytest.fixture(scope="module")
def learner() -> Learner:
    """A model of small pictures."""
    pictures = np.random.default_rng(1).integers(0, 255, (10, 4, 6, 3), np.uint8)
    task = Task(
        model=lambda: keras.Sequential(
            [keras.Input((4, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(2, name="last")]
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.SGD,
        train=data.arrays(pictures, np.arange(10) % 2),
        global_batch=2,
        steps=1,
        inputs=ImageInput(4, 6, 3, scale=1 / 255),
    )
    return Learner(task, tf.distribute.MirroredStrategy(["CPU:0"]))


@pytest.fixture
def curves(tmp_path: Path) -> Curves:
    """Event files in which nothing may fail."""
    return Curves(tmp_path, on_failed=pytest.fail)


def read(folder: Path) -> EventAccumulator:
    """Return what TensorBoard reads."""
    found = EventAccumulator(str(folder / insights.RUN), size_guidance={"tensors": 0})
    return found.Reload()


def test_graph(learner: Learner, curves: Curves, tmp_path: Path) -> None:
    found = export.export_graph(learner, tmp_path / "output")
    insights.graph(curves, found)
    assert any("last" in node.name for node in read(tmp_path).Graph().node)
    assert export.export_graph(learner, tmp_path / "output") is None


def test_pictures(learner: Learner, curves: Curves, tmp_path: Path) -> None:
    insights.examples(curves, learner)
    found = read(tmp_path)
    (event,) = found.Tensors("examples")
    width, height, *pictures = tf.make_ndarray(event.tensor_proto).tolist()
    assert (width, height) == (b"6", b"4")
    shown = np.stack([tf.io.decode_png(one).numpy() for one in pictures])
    np.testing.assert_array_equal(shown, learner.sample.numpy())
    assert found.SummaryMetadata("examples").plugin_data.plugin_name == "images"


def test_weights(learner: Learner, curves: Curves, tmp_path: Path) -> None:
    checkpoint = tmp_path / "step"
    checkpoint.mkdir()
    snapshot.write(snapshot.take(learner.variables()), checkpoint)
    insights.weights(curves, checkpoint, 7)
    found = read(tmp_path)
    (kernel, bias) = found.Tags()["tensors"]
    assert kernel.endswith("kernel")
    assert bias.endswith("bias")
    (event,) = found.Tensors(kernel)
    rows = tf.make_ndarray(event.tensor_proto)
    values = learner.model.get_layer("last").kernel.numpy()
    assert event.step == 7
    assert rows[:, 2].sum() == values.size
    assert (rows[0, 0], rows[-1, 1]) == (values.min(), values.max())
    assert found.SummaryMetadata(kernel).plugin_data.plugin_name == "histograms"


@pytest.mark.parametrize(
    ("values", "counted"),
    [
        pytest.param(np.zeros(5), 5, id="all alike"),
        pytest.param(np.array([1, np.nan, np.inf]), 1, id="not finite"),
        pytest.param(np.zeros((0, 3)), 0, id="none"),
        pytest.param(np.array(3.0), 1, id="one"),
        pytest.param(np.arange(5 << 20, dtype=np.float32), 1 << 20, id="many"),
    ],
)
def test_values_of_all_kinds_are_counted(values: np.ndarray, counted: int) -> None:
    assert insights._histogram(values)[:, 2].sum() == counted


def test_a_checkpoint_that_is_gone_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    insights.weights(Curves(tmp_path, on_failed=told.append), tmp_path / "gone", 1)
    assert len(told) == 1
