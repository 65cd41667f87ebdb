"""Weights that a user brings for a known network."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.task import TaskError

# What a file takes at most besides a few times its size: a damaged one can have HDF5 ask for
# gigabytes, and the process would be ended without a word.
_SPARE_BYTES = 256 << 20
_TIMES_ITS_SIZE = 8


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
        with _at_most(_SPARE_BYTES + _TIMES_ITS_SIZE * path.stat().st_size):
            model.load_weights(path)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        EOFError,
        MemoryError,
    ) as error:
        # Half of it may be in place already.
        for variable, value in zip(model.variables, fresh, strict=True):
            variable.assign(value)
        raise TaskError(
            f"weights file {path} cannot be used for {model.name}: {_first_line(error)}; it is "
            f"damaged, cut off, or of another network ({path.stat().st_size:,} bytes)"
        ) from error
    return model


@contextmanager
def _at_most(more_bytes: int) -> Iterator[None]:
    """Within, this process gets so much more memory, and then an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + more_bytes
    bounds = [b for b in (bound, soft, hard) if b != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:300]
