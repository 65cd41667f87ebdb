"""The readers of data files, which need TensorFlow."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import tensorflow as tf

from tests.fuzz.engine import Target
from trainer import data, pretrained, snapshot
from trainer.data.errors import DataError
from trainer.data.idx import read_idx
from trainer.snapshot import CheckpointError
from trainer.task import TaskError


class _File:
    """Hands inputs to a reader as a file."""

    def __init__(self, path: Path, read: Callable[[Path], object]) -> None:
        self._path, self._read = path, read
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, content: bytes) -> None:
        self._path.write_bytes(content)
        self._read(self._path)


def targets(folder: Path) -> tuple[Target, ...]:
    """Return the targets; files that they need are made in the folder."""
    return (
        Target("data-idx", _File(folder / "idx", read_idx), (DataError,), _IDX, make=_an_idx),
        Target("data-csv", _File(folder / "csv", _csv), (DataError,), _CSV, tokens=_CSV_WORDS),
        Target("data-tfrecord", _File(folder / "tfr", _tfrecord), (DataError,), _records()),
        Target("data-picture", _Pictures(folder), _PICTURE_ERRORS, _pictures()),
        Target("data-weights", _Weights(folder), (TaskError,), _weights(folder)),
        Target("data-checkpoint", _Checkpoint(folder), (CheckpointError,), _checkpoint(folder)),
    )


def _csv(path: Path) -> None:
    data.csv(path, features=["x", "y"], label="kind")


def _tfrecord(path: Path) -> None:
    spec = {"x": tf.io.FixedLenFeature([2], tf.float32), "y": tf.io.FixedLenFeature([], tf.int64)}
    data.tfrecord(path, spec, label="y")


class _Pictures:
    """A folder of two classes, one with a sound picture and one with the input."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pictures"
        for name in ("a", "b"):
            (self._folder / name).mkdir(parents=True)
        (self._folder / "a" / "sound.png").write_bytes(_pictures()[0])

    def __call__(self, content: bytes) -> None:
        (self._folder / "b" / "input").write_bytes(content)
        examples = data.image_folder(self._folder, size=(4, 4))
        pictures, _ = examples.fetch([0, 1])
        assert pictures.shape == (2, 4, 4, 3)


# The second is how a data set fails in training; its text names the file.
_PICTURE_ERRORS: tuple[type[BaseException], ...] = (DataError, tf.errors.InvalidArgumentError)


# --- Weights


def _model() -> Any:
    return tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(3)])


class _Weights:
    """A file of weights that somebody brings. After one that cannot be used the model is as it
    was."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "brought.weights.h5"
        self._model = _model()

    def __call__(self, content: bytes) -> None:
        self._path.write_bytes(content)
        before = [variable.numpy() for variable in self._model.variables]
        try:
            pretrained.load_weights(self._model, self._path)
        except TaskError:
            after = [variable.numpy() for variable in self._model.variables]
            assert all(
                np.array_equal(a, b, equal_nan=True) for a, b in zip(before, after, strict=True)
            )
            raise


def _weights(folder: Path) -> tuple[bytes, ...]:
    path = folder / "seed.weights.h5"
    _model().save_weights(path)
    return (path.read_bytes(),)


class _Checkpoint:
    """A checkpoint whose manifest vouches for whatever its files hold: index first, then data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "forged"
        self._folder.mkdir()
        self._variables = {"x": tf.Variable([1.0, 2.0]), "n": tf.Variable(3, dtype=tf.int64)}

    def __call__(self, content: bytes) -> None:
        size = int.from_bytes(content[:2], "big")
        index, values = content[2 : 2 + size], content[2 + size :]
        (self._folder / "variables.index").write_bytes(index)
        (self._folder / "variables.data-00000-of-00001").write_bytes(values)
        snapshot.restore(self._folder, self._variables)


def _checkpoint(folder: Path) -> tuple[bytes, ...]:
    place = folder / "sound"
    place.mkdir()
    snapshot.write({"x": tf.constant([1.0, 2.0]), "n": tf.constant(3, tf.int64)}, place)
    index, values = (
        (place / name).read_bytes() for name in ("variables.index", "variables.data-00000-of-00001")
    )
    return (len(index).to_bytes(2, "big") + index + values,)


def _idx(kind: int, shape: tuple[int, ...], content: bytes) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


def _an_idx(random: Random) -> bytes:
    """Return a file whose header says anything about a few bytes."""
    sizes = (0, 1, 2, 3, 28, 255, 65535, 2**31, 2**32 - 1)
    shape = tuple(random.choice(sizes) for _ in range(random.choice((0, 1, 2, 3, 4, 33, 255))))
    kind = random.choice((8, 9, 11, 12, 13, 14, 0, 255))
    made = _idx(kind, shape, random.randbytes(random.choice((0, 1, 6, 24, 400))))
    return gzip.compress(made, 1, mtime=0) if random.random() < 0.3 else made


_IDX = (
    _idx(8, (2, 3), bytes(6)),
    _idx(13, (2,), struct.pack(">2f", 1.5, float("nan"))),
    gzip.compress(_idx(8, (2, 3), bytes(6)), mtime=0),
)
_CSV = (
    b"x,y,kind\n1,2,a\n3,4.5,b\n",
    b'\xef\xbb\xbfx,y,kind\r\n"1",2,"a ""b"""\r\n3,4,b\r\n',
    b"kind,x,y\n1,1e5,-3\n",
)
_CSV_WORDS = (b'"', b",", b"\n", b"\r", b"nan", b"1e999", b"1_0", b"\0", b"\xff", b"x,y,kind\n")


def _records() -> tuple[bytes, ...]:
    features = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=[1.0, 2.0])),
        "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    place = "ram://seed.tfrecord"
    with tf.io.TFRecordWriter(place) as writer:
        for _ in range(3):
            writer.write(example)
    with tf.io.gfile.GFile(place, "rb") as file:
        whole: bytes = file.read()
    return (whole, whole[: len(whole) // 3])


def _pictures() -> tuple[bytes, ...]:
    pixels: Any = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    png: bytes = tf.io.encode_png(pixels).numpy()
    jpeg: bytes = tf.io.encode_jpeg(pixels).numpy()
    bmp_sizes = (70, 0, 0, 54, 40, 2, 2, 1, 24, 0, 16, 0, 0, 0, 0)
    bmp = b"BM" + struct.pack("<IHHIIiiHHIIiiII", *bmp_sizes) + bytes(16)
    gif = (
        b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01"
        b"\x00\x00\x02\x02D\x01\x00;"
    )
    # Says that it is 60,000 pixels wide and high.
    vast = bytearray(png)
    vast[16:24] = struct.pack(">II", 60_000, 60_000)
    return (png, jpeg, bmp, gif, bytes(vast))
