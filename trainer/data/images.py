"""Reader of folders of pictures, one sub-folder a class."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.data.errors import DataError, unreadable
from trainer.data.examples import Examples, OnHost

# How a file of each kind begins, and what its last bytes contain when it is whole.
_KINDS = (
    (b"\xff\xd8\xff", b"\xff\xd9"),
    (b"\x89PNG\r\n\x1a\n", b"IEND"),
    (b"GIF87a", b"\x3b"),
    (b"GIF89a", b"\x3b"),
    (b"BM", b""),
)
# Some cameras and editors pad a picture or append a thumbnail or a comment after its end marker.
_TAIL = 4096
# Files that are read at a time: reading waits for the storage, and hashing leaves the interpreter.
_READERS = 8
# What file managers leave behind; hidden files are ignored as well.
_LITTER = frozenset({"thumbs.db", "desktop.ini"})


def image_folder(
    folder: str | os.PathLike[str], *, size: tuple[int, int], channels: int = 3
) -> Examples:
    """Return the pictures of a folder: features uint8[height, width, channels], labels int64.

    Every sub-folder is a class; labels are positions in `class_names`, the sub-folders' sorted
    names. Pictures (JPEG, PNG, GIF, BMP) may lie deeper in it. They are decoded when fetched,
    resized to `size` (height, width) with antialiasing, values 0..255.

    The order of the examples, and how `split` divides them, is by the content of the files: their
    names and places say nothing but the class. Every file is read once for that.
    """
    name = os.fspath(folder)
    height, width = size
    if height < 1 or width < 1:
        raise DataError(f"size={size}: give a height and a width of at least 1")
    if channels not in (1, 3, 4):
        raise DataError(f"channels={channels}: give 1 (grey), 3 (colour) or 4 (with alpha)")
    classes = _classes(name)
    pictures = [_pictures(os.path.join(name, class_name)) for class_name in classes]
    paths = [path for group in pictures for path in group]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(g) for g in pictures])
    with ThreadPoolExecutor(_READERS) as pool:
        content = np.fromiter(pool.map(_content, paths), np.uint64, len(paths))
    # Copies of a picture in two classes are in the order of the classes.
    order = np.lexsort((labels, content))
    # Object dtype: TensorFlow then stores the paths themselves, not padded ones.
    table = OnHost((np.array([os.fsencode(path) for path in paths], object)[order], labels[order]))

    def fetch(indices: Any, keys: Any) -> tuple[Any, Any]:
        del keys
        all_paths, all_labels = table.tensors
        chosen = tf.gather(all_paths, indices)
        return _decode(chosen, height, width, channels), tf.gather(all_labels, indices)

    return Examples(len(paths), fetch, classes, content=content[order], plain=True)


def _classes(name: str) -> tuple[str, ...]:
    try:
        with os.scandir(name) as entries:
            seen = [e for e in entries if not e.name.startswith(".")]
            classes = tuple(sorted(e.name for e in seen if e.is_dir()))
    except OSError as error:
        raise unreadable(name, error) from error
    if len(classes) > 1:
        return classes
    found = f"only one, {classes[0]!r}" if classes else f"none, but {len(seen)} files"
    raise DataError(
        f"{name}: needs at least two sub-folders, one a class, and has "
        f"{found if seen else 'nothing in it'}; put the pictures of each class in its own folder"
    )


def _pictures(folder: str) -> list[str]:
    """Return the pictures below a class folder in the same order everywhere."""

    def refuse(error: OSError) -> None:
        raise unreadable(error.filename, error) from error

    paths = []
    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        paths += [
            os.path.join(parent, file)
            for file in sorted(files)
            if not file.startswith(".") and file.lower() not in _LITTER
        ]
    if not paths:
        raise DataError(f"{folder}: this class has no picture; put some in or remove the folder")
    return paths


def _content(path: str) -> int:
    """Return a hash of the file. What is no picture, or not a whole one, is refused.

    It is told by its first and last bytes alone; decoding it would take a hundred times as long.
    """
    try:
        with open(path, "rb", buffering=0) as stream:
            content = stream.read()
    except OSError as error:
        raise unreadable(path, error) from error
    kind = next((kind for kind in _KINDS if content.startswith(kind[0])), None)
    if kind is None:
        raise DataError(
            f"{path}: begins with {content[:8].hex(' ') or 'nothing'} at byte 0, so it is "
            "not a JPEG, PNG, GIF or BMP picture; convert or remove it"
        )
    whole = kind[1] in content[-_TAIL:]
    if kind[0] == b"BM":
        whole = len(content) >= int.from_bytes(content[2:6], "little")
    if not whole:
        raise DataError(
            f"{path}: truncated, its end is missing at byte {len(content)}; get it again or "
            "remove it"
        )
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _decode(paths: Any, height: int, width: int, channels: int) -> Any:
    """Decode pictures; an error names the files that could not be.

    A decoder's own error does not say which file it was given. So broken pictures drop out of
    a nested data set, and what is missing from it is reported by path.
    """
    count = tf.shape(paths, tf.int64)[0]

    def one(place: Any, path: Any) -> tuple[Any, Any]:
        picture = tf.io.decode_image(tf.io.read_file(path), channels, expand_animations=False)
        picture.set_shape([None, None, channels])
        resized = tf.image.resize(picture, [height, width], antialias=True)
        return place, tf.saturate_cast(tf.round(resized), tf.uint8)

    numbered = tf.data.Dataset.from_tensor_slices((tf.range(count), paths))
    whole = numbered.map(one).ignore_errors(log_warning=True)
    # Everything in one batch. An empty one is added because no picture may be whole.
    nothing = tf.data.Dataset.from_tensors(
        (tf.zeros([0], tf.int64), tf.zeros([0, height, width, channels], tf.uint8))
    )
    batch = whole.batch(tf.maximum(count, 1)).concatenate(nothing).take(1)
    places, pictures = batch.get_single_element()
    seen = tf.scatter_nd(places[:, tf.newaxis], tf.ones_like(places), [count])
    broken = tf.boolean_mask(paths, tf.equal(seen, 0))
    check = tf.debugging.Assert(
        tf.equal(tf.size(broken), 0),
        ["pictures that cannot be read or decoded; get them again or remove them:", broken],
        summarize=10,
    )
    with tf.control_dependencies([check] if check is not None else []):
        return tf.ensure_shape(pictures, [paths.shape[0], height, width, channels])
