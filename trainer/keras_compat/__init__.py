"""Makes Keras 3's fit, evaluate and predict work under MultiWorkerMirroredStrategy.

`install()` mends the Keras of this process, at once or when it is imported, if it has the defects
that `probes` looks for. A Keras without them is left alone, and so are one older than 3.12 and
the legacy tf_keras, which is another package. docs/keras.md says what works and what cannot.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_KERAS = "keras"
_MARK = "_taas_mended"
# Older ones have the defects in other places.
_OLDEST = (3, 12)
# The parts of Keras that are mended, all or none.
_PARTS = {
    "trainer": "keras.src.backend.tensorflow.trainer",
    "epoch_iterator": "keras.src.trainers.epoch_iterator",
    "loss": "keras.src.losses.loss",
    "random": "keras.src.backend.tensorflow.random",
    "tensorflow_optimizer": "keras.src.backend.tensorflow.optimizer",
    "base_optimizer": "keras.src.optimizers.base_optimizer",
    "compile_utils": "keras.src.trainers.compile_utils",
    "callbacks": "keras.src.callbacks",
    "loss_scale_optimizer": "keras.src.optimizers.loss_scale_optimizer",
}


def install() -> None:
    """Mend Keras now if it is imported, else at its import. May be called again.

    Runs no TensorFlow operation: it may be called before a fork.
    """
    keras = sys.modules.get(_KERAS)
    if keras is not None:
        _mend(keras)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds Keras as the others do, and mends it once it is loaded."""

    def __init__(self) -> None:
        self._asking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _KERAS or self._asking:
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking = False
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            # Only now: TensorFlow looks whether there is a Keras long before it loads it.
            sys.meta_path.remove(self)
            load(module)
            _mend(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _mend(keras: ModuleType) -> None:
    trainer = sys.modules.get(_PARTS["trainer"])
    if trainer is None or getattr(keras, _MARK, False):
        return  # Keras 2, another backend, or done.
    from trainer.keras_compat import probes

    setattr(keras, _MARK, True)
    version = str(keras.__version__)
    found = [
        text
        for text, probe in (
            (
                "builds a model from the mean of the workers' batches",
                probes.reduces_the_first_batch,
            ),
            ("averages scalar metrics along an axis", probes.reduces_scalars_along_an_axis),
        )
        if probe(trainer)
    ]
    if not found:
        return
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        sys.stderr.write(
            f"Keras {version} {' and '.join(found)}, and is older than 3.12, the oldest that can "
            "be mended: its fit works on one worker only; use a newer Keras\n"
        )
        return
    parts: dict[str, Any] = {name: importlib.import_module(m) for name, m in _PARTS.items()}
    from trainer.keras_compat import callbacks, dropout, losses, optimizers, trainers

    trainers.mend(parts["trainer"], parts["epoch_iterator"])
    losses.mend(parts["loss"], parts["compile_utils"])
    dropout.mend(parts["random"])
    callbacks.mend(parts["callbacks"])
    optimizers.mend(
        parts["tensorflow_optimizer"].TFOptimizer,
        parts["base_optimizer"].BaseOptimizer,
        parts["loss_scale_optimizer"].LossScaleOptimizer,
    )
    sys.stderr.write(
        f"Keras {version} {' and '.join(found)}: mended fit, evaluate and predict for a group\n"
    )
