"""When the mend of Keras is put in, and when Keras is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.training

SAYS = """
import sys
def mended():
    trainer = sys.modules["keras.src.backend.tensorflow.trainer"]
    return trainer.TensorFlowTrainer._make_function.__module__ == "trainer.keras_compat.trainers"
def untouched():
    from tensorflow.python.eager import context
    return context.context()._context_handle is None
"""
# What Keras would be like without the two defects.
SOUND = """
import contextlib
def build(self, iterator=None, data_batch=None):
    with contextlib.suppress(AttributeError):
        self._symbolic_build(data_batch=data_batch)
trainer = sys.modules["keras.src.backend.tensorflow.trainer"]
trainer.TensorFlowTrainer._maybe_symbolic_build = build
trainer.reduce_per_replica = lambda v, strategy, reduction: v
"""


def program(text: str, **env: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", SAYS + text],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": "", **env},
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "order",
    [
        "import keras; keras_compat.install()",
        "keras_compat.install(); keras_compat.install(); import keras; keras_compat.install()",
        "keras_compat.install(); import tensorflow as tf; tf.keras.layers",
    ],
    ids=["imported before", "imported afterwards", "imported by TensorFlow"],
)
def test_keras_is_mended_once_whenever_it_is_imported(order: str) -> None:
    done = program(
        f"from trainer import keras_compat; {order}; assert mended(); assert untouched()"
    )
    assert done.stderr.count("mended fit") == 1


def test_the_iterator_of_an_epoch_ends_at_once_unless_the_program_has_a_tuner() -> None:
    program("""
from trainer import keras_compat; keras_compat.install()
import keras, numpy as np, tensorflow as tf
from keras.src.backend.tensorflow.trainer import TFEpochIterator

def tuned(x, strategy):
    with strategy.scope():
        made = TFEpochIterator(x=x, distribute_strategy=strategy)
    dataset = made._distributed_dataset
    return getattr(dataset, "_original_dataset", dataset).options().autotune.enabled

wanted = tf.data.Options()
wanted.autotune.enabled = True
own = tf.data.Dataset.range(8).batch(4)
for strategy in (tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy()):
    assert tuned(np.zeros((8, 1)), strategy) is False
    assert tuned(own, strategy) is False
    assert tuned(own.with_options(wanted), strategy) is True
""")


def test_keras_without_the_defects_is_left_alone() -> None:
    done = program(
        f"import keras\n{SOUND}\n"
        "from trainer import keras_compat; keras_compat.install(); assert not mended()"
    )
    assert "mended" not in done.stderr


def test_an_old_keras_is_left_alone_and_named() -> None:
    done = program(
        "import keras\nkeras.__version__ = '3.11.3'\n"
        "from trainer import keras_compat; keras_compat.install(); assert not mended()"
    )
    assert "Keras 3.11.3" in done.stderr
    assert "its fit works on one worker only; use a newer Keras" in done.stderr


def test_another_backend_is_left_alone() -> None:
    # As with any other backend, the trainer of TensorFlow's was not loaded.
    done = program(
        "import keras\ndel sys.modules['keras.src.backend.tensorflow.trainer']\n"
        "from trainer import keras_compat; keras_compat.install()"
    )
    assert "mended" not in done.stderr
