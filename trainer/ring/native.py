"""The native library: TensorFlow's operation, and the ring that it works on.

It is built by `python -m tools.native` and lies beside this file.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).with_name("ring.so")


class NativeError(Exception):
    """The library cannot be used here; the text says why."""


class Segment(ctypes.Structure):
    """A part of what is reduced, as the library takes it."""

    _fields_ = (("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t))


# Called with the argument of the reduction, its outcome (0: done) and, if not done, an error.
Done = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)


def load(path: Path = LIBRARY) -> ctypes.CDLL:
    """Return the library without TensorFlow's operation. Raises NativeError."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeError(f"{path.name}: {error}") from error
    library.ring_open.restype = ctypes.c_void_p
    library.ring_open.argtypes = [ctypes.c_int] * 5
    library.ring_start.restype = None
    library.ring_start.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint64,
        ctypes.c_int,
        ctypes.POINTER(Segment),
        ctypes.c_size_t,
        Done,
        ctypes.c_void_p,
    ]
    library.ring_close.restype = None
    library.ring_close.argtypes = [ctypes.c_void_p]
    library.ring_use.restype = None
    library.ring_use.argtypes = [ctypes.c_void_p]
    return library


def operation(path: Path = LIBRARY) -> Any:
    """Return TensorFlow's operation, to be called with `instance` (a scalar int32), `inputs`
    (tensors of one type) and `group` (an int). Raises NativeError."""
    import tensorflow as tf

    if not path.exists():
        raise NativeError("the native library has not been built")
    try:
        module = tf.load_op_library(str(path))
    except (OSError, tf.errors.OpError) as error:
        raise NativeError(f"{path.name}: {error}") from error
    made = getattr(module, "taas_all_reduce", None)
    if made is None:
        raise NativeError(f"TensorFlow {tf.__version__} lacks what the native library needs")
    return made
