"""Loads what a job exported, or a checkpoint of a job that still trains.

A folder holds a model when it is one of

    FOLDER/{model.json, model/}                a job's output folder
    FOLDER/{saved_model.pb, ...}               the SavedModel in it (model.json is then beside it)
    FOLDER/{model.json, model/, checkpoint/}   output/graph of a job, and one of its checkpoints

Other SavedModels load as well, as long as nobody needs to know what they take.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.storage import NO_DOCUMENT

MODEL, DESCRIPTION, GRAPH, CHECKPOINT = "model", "model.json", "graph", "checkpoint"
SAVED_MODEL = "saved_model.pb"
SERVING = "serving_default"
# Prefix of the values in a checkpoint's folder, as trainer.snapshot writes them.
_VARIABLES = "variables"


class NotAModel(Exception):
    """The folder holds no model that can be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Description:
    """What model.json says. `kind` is what the model takes: image, table or tensor."""

    kind: str
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    step: int = 0
    # Entry of a checkpoint for each variable; only where the values lie in one.
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """A model in memory. `description` is None for a SavedModel from elsewhere.

    Keep it as long as its signatures are called: they do not hold on to the variables.
    """

    signatures: Mapping[str, Any]
    description: Description | None
    _loaded: Any


def saved_model(folder: Path) -> Path | None:
    """Return where the SavedModel of a folder lies, or None if there is none."""
    for place in (folder / MODEL, folder):
        if (place / SAVED_MODEL).is_file():
            return place
    return None


def description(folder: Path) -> Description | None:
    """Return what model.json in a folder says; None if there is none.

    Raises NotAModel if it is damaged.
    """
    place = folder / DESCRIPTION
    try:
        raw = json.loads(place.read_text())
        return Description(
            kind=str(raw["inputs"]["kind"]),
            columns=tuple(raw["inputs"].get("columns", ())),
            classes=tuple(raw["classes"] or ()),
            step=int(raw.get("step", 0)),
            variables=tuple(raw.get("variables", ())),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, *NO_DOCUMENT) as error:
        raise NotAModel(
            f"{place}: cannot be used ({type(error).__name__}: {error}); export the model again"
        ) from error


def load(folder: Path, checkpoint: Path | None = None) -> Exported:
    """Load a model; of a graph without values with those of a checkpoint. Raises NotAModel.

    By default the checkpoint is the one in the folder.
    """
    place = saved_model(folder)
    if place is None:
        raise NotAModel(
            f"{folder}: holds no model; give the output folder of a job, or a SavedModel's folder "
            f"with {SAVED_MODEL}"
        )
    # The SavedModel alone may be named; what belongs to it is beside it then.
    root = place.parent if place.name == MODEL else place
    described = description(root)
    checkpoint = checkpoint or root / CHECKPOINT
    if described and described.variables and not checkpoint.is_dir():
        raise NotAModel(
            f"{folder}: is a model without values, for checkpoints of a job that still trains; "
            "name the job instead, or download its model when it is done"
        )
    with _no_greetings():
        import tensorflow as tf

        try:
            loaded = tf.saved_model.load(str(place))
            if described and described.variables:
                _fill(tf, loaded, described.variables, checkpoint)
        except (OSError, ValueError, IndexError, AttributeError, tf.errors.OpError) as error:
            raise NotAModel(f"{place}: cannot be loaded: {error}") from error
    if not loaded.signatures:
        raise NotAModel(f"{place}: has no signature to call; save it with signatures=")
    return Exported(loaded.signatures, described, loaded)


def _fill(tf: Any, loaded: Any, names: tuple[str, ...], checkpoint: Path) -> None:
    """Give the variables of a loaded graph the values in a checkpoint's folder."""
    reader = tf.train.load_checkpoint(str(checkpoint / _VARIABLES))
    for variable, name in zip(loaded.state, names, strict=True):
        variable.assign(reader.get_tensor(name))


@contextmanager
def _no_greetings() -> Iterator[None]:
    """Within, what TensorFlow's native code prints about the CPU does not reach the terminal.

    It writes to the file descriptor, before its own settings are read. When something fails, all
    that was held back is shown.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
