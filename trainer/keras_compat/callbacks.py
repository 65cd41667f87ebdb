"""Callbacks that keep files: the chief's are the program's, the others' go to a scratch folder.

Every worker runs every callback, and a path in a program is one for all of them. Where workers
share a disk they would write over each other; where they do not, only the chief would find its
backup again. So the chief reads and writes where the program says, and tells the others what it
has read. The others go through the same motions, because saving may read variables together.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from trainer.keras_compat import group, shares

# The attributes of Keras' callbacks that hold a path.
_PATHS = {
    "ModelCheckpoint": ("filepath",),
    "CSVLogger": ("filename",),
    "TensorBoard": ("log_dir",),
    "BackupAndRestore": (
        "backup_dir",
        "_weights_path",
        "_training_metadata_path",
        "_prev_weights_path",
        "_prev_training_metadata_path",
    ),
}
# Where a callback's scratch folder is kept, on a worker that is not the chief.
_SCRATCH = "_taas_scratch"


def mend(callbacks: Any) -> None:
    """Mend the classes of Keras' module of callbacks that write files."""
    for name, attributes in _PATHS.items():
        _write_aside(getattr(callbacks, name), attributes)
    _restore_together(callbacks.BackupAndRestore)


def _write_aside(callback: Any, attributes: tuple[str, ...]) -> None:
    set_model, on_train_end = callback.set_model, callback.on_train_end

    def mended_set_model(self: Any, model: Any) -> None:
        strategy = model.distribute_strategy
        if shares.divided(strategy) and not _is_chief(strategy):
            for attribute, path in _aside(self, attributes).items():
                os.makedirs(os.path.dirname(path), exist_ok=True)
                setattr(self, attribute, path)
        set_model(self, model)

    def mended_on_train_end(self: Any, logs: Any = None) -> None:
        on_train_end(self, logs)
        if scratch := getattr(self, _SCRATCH, None):
            shutil.rmtree(scratch, ignore_errors=True)

    callback.set_model = mended_set_model
    callback.on_train_end = mended_on_train_end


def _aside(callback: Any, attributes: tuple[str, ...]) -> dict[str, str]:
    """Return where a callback's paths lead on a worker that is not the chief."""
    paths = {name: os.path.normpath(os.fspath(getattr(callback, name))) for name in attributes}
    if hasattr(callback, _SCRATCH):
        return paths
    scratch = tempfile.mkdtemp(prefix="taas-callback-")
    setattr(callback, _SCRATCH, scratch)
    return {name: os.path.join(scratch, path.lstrip(os.sep)) for name, path in paths.items()}


def _restore_together(callback: Any) -> None:
    on_train_begin = callback.on_train_begin

    def mended(self: Any, logs: Any = None) -> None:
        model, strategy = self.model, self.model.distribute_strategy
        if not shares.divided(strategy):
            on_train_begin(self, logs)
            return
        spoken = [0, 0]
        if _is_chief(strategy):
            spoken = [int(os.path.exists(self._weights_path)), 0]
            on_train_begin(self, logs)
            spoken[1] = int(model._initial_epoch or 0)
        found, epoch = group.said_by_all(strategy, spoken)[0]
        if found:
            group.spread(strategy, [*model.variables, *model.optimizer.variables])
            model._initial_epoch = epoch

    callback.on_train_begin = mended


def _is_chief(strategy: Any) -> bool:
    return 0 in shares.local_replicas(strategy)
