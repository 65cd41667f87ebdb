"""Weights that a user brings for a known network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from trainer.task import TaskError


def load_weights(model: Any, file: str | os.PathLike[str]) -> Any:
    """Put the weights in a file (.weights.h5, .h5 or .keras) into a Keras model, and return it.

    Raises TaskError naming the file: it is missing, damaged, cut off, or of another network.
    """
    path = Path(file)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise TaskError(
            f"weights file {path} {what}; name a file that every worker can read (relative paths "
            f"begin at {os.getcwd()})"
        )
    fresh = [variable.numpy() for variable in model.variables]
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError) as error:
        # Half of it may be in place already.
        for variable, value in zip(model.variables, fresh, strict=True):
            variable.assign(value)
        raise TaskError(
            f"weights file {path} cannot be used for {model.name}: {_first_line(error)}; it is "
            f"damaged, cut off, or of another network ({path.stat().st_size:,} bytes)"
        ) from error
    return model


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:300]
