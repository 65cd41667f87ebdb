"""Reader of IDX files, the format of MNIST and its relatives, raw or compressed with gzip.

A file is the bytes 0, 0, type, number of axes; one big-endian uint32 per axis; then the values,
big-endian, last axis fastest.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.arrays import arrays
from trainer.data.errors import DataError, unreadable
from trainer.data.examples import Examples

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
# Deflate cannot pack more than 1032 bytes into one (RFC 1951: 258 bytes in two bits), so a
# header that declares more than that is a lie, found before a byte is allocated.
_DEFLATE_RATIO = 1032
_CHUNK = 1 << 20

Path = str | os.PathLike[str]

DIGITS = tuple("0123456789")


def mnist(folder: Path, class_names: Sequence[str] = DIGITS) -> tuple[Examples, Examples]:
    """Return the examples to train on and those to test with, of a folder with MNIST's four files.

    They keep the names that their authors gave them, train-images-idx3-ubyte and so on, with or
    without .gz. Relatives with the same names (Fashion-MNIST) need other `class_names`.
    """
    train, test = (
        idx(
            _one_of(folder, f"{part}-images-idx3-ubyte"),
            _one_of(folder, f"{part}-labels-idx1-ubyte"),
            class_names,
        )
        for part in ("train", "t10k")
    )
    return train, test


def _one_of(folder: Path, name: str) -> str:
    """Return the path of the file, compressed or not; the former if there is neither."""
    path = os.path.join(folder, name)
    return path if os.path.exists(path) else f"{path}.gz"


def idx(images: Path, labels: Path, class_names: Sequence[str] | None = None) -> Examples:
    """Return the examples of an IDX file of pictures and an IDX file of their classes.

    Features keep the type of the file; pictures without a channel axis get one of size 1, so
    MNIST gives uint8[28, 28, 1]. Labels are int64.
    """
    x, y = read_idx(images), read_idx(labels)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(
            f"{os.fspath(labels)}: holds {y.dtype} of shape {y.shape}, not one whole number per "
            "example; give the file of the labels as the second argument"
        )
    if len(x) != len(y):
        raise DataError(
            f"{os.fspath(images)} holds {len(x)} examples but {os.fspath(labels)} holds "
            f"{len(y)} labels; give two files that belong together"
        )
    if not len(x):
        raise DataError(f"{os.fspath(images)}: holds no example; give a file that does")
    if class_names is not None and not 0 <= int(y.min()) <= int(y.max()) < len(class_names):
        raise DataError(
            f"{os.fspath(labels)}: labels go from {y.min()} to {y.max()} but class_names has "
            f"{len(class_names)} names; name every class"
        )
    return arrays(x[..., np.newaxis] if x.ndim == 3 else x, y.astype(np.int64), class_names)


def read_idx(path: Path) -> NDArray[Any]:
    """Return the array in an IDX file, in native byte order. Raises DataError."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as raw:
            packed = os.fstat(raw.fileno()).st_size
            if raw.peek(2)[:2] == _GZIP_MAGIC:
                with gzip.GzipFile(fileobj=raw) as stream:
                    return _read(name, io.BufferedReader(stream), packed, compressed=True)
            return _read(name, raw, packed, compressed=False)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: damaged gzip data ({error}); get the file again") from error
    except OSError as error:
        raise unreadable(name, error) from error


def _read(name: str, stream: io.BufferedReader, packed: int, *, compressed: bool) -> NDArray[Any]:
    dtype, shape, header = _read_header(name, stream)
    expected = prod(shape) * dtype.itemsize
    place = " of the unpacked data" if compressed else ""
    if compressed:
        if header + expected > packed * _DEFLATE_RATIO:
            raise DataError(
                f"{name}: the header at byte 0 declares {expected} bytes of values, more than "
                f"{packed} compressed bytes can hold; get the file again"
            )
    elif header + expected != packed:
        raise DataError(
            f"{name}: the header declares shape {shape}, so the file should end at byte "
            f"{header + expected}, but it ends at byte {packed}; get the file again"
        )
    try:
        # Memory pages are taken up only as bytes arrive, so a truncated file costs its own size.
        values = np.empty(expected, np.uint8)
    except (MemoryError, ValueError) as error:
        raise DataError(
            f"{name}: the header at byte 0 declares {expected} bytes of values, more than this "
            "machine has memory for; use a smaller file or TFRecord files"
        ) from error
    view, done = values.data, 0
    while done < expected:
        read = _readinto(name, stream, view[done : done + _CHUNK], header + done)
        if not read:
            raise DataError(
                f"{name}: ends at byte {header + done}{place}, but the header declares shape "
                f"{shape}, which needs {header + expected} bytes; get the file again"
            )
        done += read
    if stream.read(1):
        raise DataError(
            f"{name}: the values end at byte {header + expected}{place}, but more data follows; "
            "get the file again"
        )
    try:
        array = values.view(dtype).reshape(shape)
    except ValueError as error:
        raise DataError(
            f"{name}: the header at byte 0 declares shape {shape}, which no array can have "
            f"({error}); get the file again"
        ) from error
    return array.astype(dtype.newbyteorder("="), copy=False)


def _readinto(name: str, stream: io.BufferedReader, view: memoryview, offset: int) -> int:
    try:
        return stream.readinto(view)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{name}: damaged gzip data after byte {offset} of the unpacked data ({error}); "
            "get the file again"
        ) from error


def _read_header(
    name: str, stream: io.BufferedReader
) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return value type, shape and the number of bytes of the header."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not magic[3]:
        raise DataError(
            f"{name}: begins with {magic.hex(' ') or 'nothing'} at byte 0, which no IDX file "
            "does; give an IDX file (such as train-images-idx3-ubyte.gz)"
        )
    axes = magic[3]
    sizes = stream.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise DataError(
            f"{name}: ends at byte {4 + len(sizes)}, inside the header of {4 + 4 * axes} bytes; "
            "get the file again"
        )
    shape = struct.unpack(f">{axes}I", sizes)
    if axes > 32:
        raise DataError(f"{name}: byte 3 declares {axes} axes; at most 32 can be used")
    return np.dtype(_TYPES[magic[2]]), shape, 4 + 4 * axes
