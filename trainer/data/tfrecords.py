"""Reader of TFRecord files by random access: an index of offsets, then reads of single records.

A record is its length (uint64, little-endian), a masked CRC-32C of the length, the payload, and
a masked CRC-32C of the payload.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from trainer.data.errors import DataError, unreadable
from trainer.data.examples import Examples

_HEADER = struct.Struct("<QI")
_FOOTER = 4
_READ_BUFFER = 1 << 20

PathLike = str | os.PathLike[str]


def tfrecord(
    paths: PathLike | Sequence[PathLike],
    spec: Mapping[str, Any],
    *,
    label: str,
    features: str | None = None,
    class_names: Sequence[str] | None = None,
    index_folder: PathLike | None = None,
) -> Examples:
    """Return the tf.train.Example records of TFRecord files, parsed with `spec`.

    `spec` is what `tf.io.parse_example` takes; `label` names the entry that is the label and
    `features` the one that is the features (without it, a dict of all the others). Every checksum
    is verified while the files are indexed. With `index_folder` the index is kept there and is
    used again as long as sizes and times of the files stay as they are.
    """
    names = [os.fspath(paths)] if isinstance(paths, (str, os.PathLike)) else []
    names = names or [os.fspath(path) for path in paths]  # type: ignore[union-attr]
    for key in [label] if features is None else [label, features]:
        if key not in spec:
            raise DataError(f"{key!r} is not in the spec, which has {', '.join(map(repr, spec))}")
    tables = [_index(name, index_folder) for name in names]
    counts = [len(table) for table in tables]
    if not sum(counts):
        raise DataError(f"{', '.join(names) or 'paths'}: no record; give files with examples")
    records = np.concatenate(tables)
    file_of = np.repeat(np.arange(len(names)), counts)
    first_of = np.cumsum([0, *counts[:-1]])

    def read(indices: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        found = np.empty(len(indices), object)
        places = np.empty(len(indices), object)
        for i, index in enumerate(indices.tolist()):
            name, (offset, length) = names[file_of[index]], records[index].tolist()
            found[i] = _read(name, offset, length)
            places[i] = f"{name}, record {index - first_of[file_of[index]]}".encode()
        return found, places

    def fetch(indices: Any, keys: Any) -> tuple[Any, Any]:
        del keys
        serialized, places = tf.numpy_function(
            read, [indices], [tf.string, tf.string], stateful=False
        )
        serialized.set_shape(indices.shape)
        places.set_shape(indices.shape)
        # The parser's errors repeat the names of the examples they are about.
        parsed = tf.io.parse_example(serialized, dict(spec), example_names=places)
        target = parsed.pop(label)
        return (parsed if features is None else parsed[features]), target

    examples = Examples(len(records), fetch, class_names, plain=True)
    _check_spec(examples, names[int(file_of[0])], spec)
    return examples


def _read(name: str, offset: int, length: int) -> bytes:
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            payload = os.pread(file, length, offset)
        finally:
            os.close(file)
    except OSError as error:
        raise unreadable(name, error) from error
    if len(payload) != length:
        raise DataError(
            f"{name}: ends inside the record at byte {offset}; it was whole when it was opened, "
            "so leave the file alone while it is trained on"
        )
    return payload


def _index(name: str, folder: PathLike | None) -> NDArray[np.int64]:
    """Return (offset, length) of the payload of each record; every checksum is verified."""
    try:
        stat = os.stat(name)
        if folder is None:
            return _scan(name, stat.st_size)
        what = f"{os.path.abspath(name)}\0{stat.st_size}\0{stat.st_mtime_ns}"
        kept = Path(folder) / f"{hashlib.sha256(what.encode()).hexdigest()}.npy"
        try:
            table: NDArray[np.int64] = np.load(kept, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            table = _scan(name, stat.st_size)
            _keep(kept, table)
        return table
    except OSError as error:
        raise unreadable(error.filename or name, error) from error


def _keep(path: Path, table: NDArray[np.int64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several workers may do this at once; the last complete one stays.
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as stream:
        np.save(stream, table)
    part.replace(path)


def _scan(name: str, size: int) -> NDArray[np.int64]:
    table = _offsets(name, size)
    _verify(name, table)
    return table


def _offsets(name: str, size: int) -> NDArray[np.int64]:
    entries: list[tuple[int, int]] = []
    with open(name, "rb", buffering=0) as stream:
        if stream.read(2) == b"\x1f\x8b":
            raise DataError(
                f"{name}: compressed with gzip, which allows no random access; unpack it first"
            )
        offset = 0
        while offset < size:
            header = os.pread(stream.fileno(), _HEADER.size, offset)
            length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else size
            end = offset + _HEADER.size + length + _FOOTER
            if end > size:
                raise DataError(
                    f"{name}: record {len(entries)} at byte {offset} does not fit into the file, "
                    f"which ends at byte {size}: it is truncated or not a TFRecord file; "
                    "write it again"
                )
            entries.append((offset + _HEADER.size, length))
            offset = end
    return np.array(entries, np.int64).reshape(-1, 2)


def _verify(name: str, table: NDArray[np.int64]) -> None:
    """Let TensorFlow's own reader check the CRC-32C of every length and payload.

    Payloads are parsed once as well: the parser used later does not say whose it could not.
    """
    good = 0
    try:
        with tf.device("CPU:0"):
            for payload in tf.data.TFRecordDataset(name, buffer_size=_READ_BUFFER):
                tf.train.Example.FromString(payload.numpy())
                good += 1
        return
    except tf.errors.DataLossError as error:
        fault, cause = "is damaged (its checksum does not match)", error
    except DecodeError as error:
        fault, cause = "is no tf.train.Example", error
    offset = int(table[good][0]) - _HEADER.size
    raise DataError(f"{name}: record {good} at byte {offset} {fault}; write the file again") from (
        cause
    )


def _check_spec(examples: Examples, name: str, spec: Mapping[str, Any]) -> None:
    """Parse the first record now, so that a wrong spec is found before training."""
    try:
        examples.fetch([0])
    except tf.errors.InvalidArgumentError as error:
        raise DataError(
            f"{name}, record 0: does not match the spec {dict(spec)}: {error.message}; "
            "correct the spec"
        ) from error
