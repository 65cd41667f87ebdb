"""IDX files: every type, raw and compressed, and every way to be broken."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from trainer import data
from trainer.data.idx import read_idx

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(f">{TYPES[code]}").tobytes()


PICTURES = np.arange(3 * 4 * 5).reshape(3, 4, 5)
LABELS = np.array([2, 0, 1])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    images, labels = tmp_path / "images", tmp_path / "labels.gz"
    images.write_bytes(idx_bytes(PICTURES))
    labels.write_bytes(gzip.compress(idx_bytes(LABELS)))
    return images, labels


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("code", TYPES)
def test_every_type_is_read_raw_and_compressed(tmp_path: Path, code: int, packed: bool) -> None:
    expected = np.array([[0, 1, 100], [3, 4, 127]]) - (0 if code == 0x08 else 50)
    content = idx_bytes(expected, code)
    # What the name says does not count.
    path = tmp_path / "data.bin"
    path.write_bytes(gzip.compress(content) if packed else content)
    array = read_idx(path)
    assert array.dtype == np.dtype(TYPES[code])
    assert array.dtype.isnative
    assert array.tolist() == expected.tolist()


def test_pictures_get_a_channel_and_labels_are_int64(files: tuple[Path, Path]) -> None:
    examples = data.idx(*files, class_names=["a", "b", "c"])
    assert examples.size == 3
    assert examples.class_names == ("a", "b", "c")
    assert examples.element_spec[0] == tf.TensorSpec([4, 5, 1], tf.uint8)
    features, labels = examples.fetch(tf.constant([2, 0], tf.int64))
    assert features.numpy()[..., 0].tolist() == PICTURES[[2, 0]].tolist()
    assert labels.dtype == tf.int64
    assert labels.numpy().tolist() == [1, 2]


def broken(content: bytes) -> dict[str, tuple[bytes, str]]:
    """Return ways to break a file of PICTURES (76 bytes), and what the error must say."""
    huge = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**31, 2**31)
    return {
        "empty": (b"", "begins with nothing at byte 0"),
        "other kind": (b"\x89PNG" + content, "begins with 89 50 4e 47 at byte 0"),
        "unknown type": (b"\0\0\x0a\x03" + content[4:], "begins with 00 00 0a 03"),
        "no axis": (b"\0\0\x08\x00", "begins with 00 00 08 00"),
        "half a header": (content[:10], "ends at byte 10, inside the header of 16 bytes"),
        "too many axes": (bytes([0, 0, 8, 99]) + bytes(4 * 99), "99 axes"),
        "one byte short": (content[:-1], r"byte 76\b.*byte 75|ends at byte 75.*needs 76"),
        "one byte more": (content + b"x", r"byte 76\b"),
        "huge": (huge, "declares"),
    }


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("fault", broken(b""))
def test_a_broken_file_is_named_with_the_place(tmp_path: Path, fault: str, packed: bool) -> None:
    content, message = broken(idx_bytes(PICTURES))[fault]
    path = tmp_path / "broken-idx"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(data.DataError, match=rf"^{re.escape(str(path))}.*({message})"):
        read_idx(path)


def test_a_small_file_cannot_make_us_allocate_what_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", 2**32 - 1)))
    with pytest.raises(data.DataError, match="4294967295 bytes of values, more than"):
        read_idx(path)


@pytest.mark.parametrize("at", [0.2, 0.5, 0.9, 1.0])
def test_truncated_gzip_is_named(tmp_path: Path, at: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (5, 100, 100))
    whole = gzip.compress(idx_bytes(noise))
    path = tmp_path / "cut.gz"
    path.write_bytes(whole[: int(len(whole) * at) - 1])
    with pytest.raises(data.DataError, match=rf"^{re.escape(str(path))}: (damaged gzip|ends at)"):
        read_idx(path)


def test_a_flipped_bit_in_gzip_is_named_with_the_byte(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (5, 1000, 1000))
    content = bytearray(gzip.compress(idx_bytes(noise)))
    content[len(content) // 2] ^= 1
    path = tmp_path / "flipped.gz"
    path.write_bytes(content)
    with pytest.raises(data.DataError, match=r"damaged gzip data .*\(.*\); get the file again"):
        read_idx(path)


def test_rubbish_after_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "more.gz"
    path.write_bytes(gzip.compress(idx_bytes(PICTURES)) + b"rubbish")
    with pytest.raises(data.DataError, match=re.escape(str(path))):
        read_idx(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=r"absent: No such file.*check the path"):
        read_idx(tmp_path / "absent")
    with pytest.raises(data.DataError, match="Is a directory"):
        read_idx(tmp_path)


def test_pictures_and_labels_must_belong_together(tmp_path: Path, files) -> None:
    images, labels = files
    two = tmp_path / "two"
    two.write_bytes(idx_bytes(LABELS[:2]))
    with pytest.raises(data.DataError, match=r"images holds 3 examples but .*two holds 2 labels"):
        data.idx(images, two)
    with pytest.raises(data.DataError, match="not one whole number per example"):
        data.idx(labels, images)
    with pytest.raises(data.DataError, match="labels go from 0 to 2 but class_names has 2"):
        data.idx(images, labels, class_names=["a", "b"])
    none = tmp_path / "none"
    none.write_bytes(idx_bytes(LABELS[:0]))
    with pytest.raises(data.DataError, match="holds no example"):
        data.idx(none, none)


def test_mnist_is_found_by_the_names_of_its_files(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("t10k", 2)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(PICTURES[:count]))
        packed = gzip.compress(idx_bytes(LABELS[:count]))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(packed)
    train, test = data.mnist(tmp_path)
    assert (train.size, test.size) == (3, 2)
    assert train.class_names == test.class_names == tuple("0123456789")
    with pytest.raises(data.DataError, match="labels go from 0 to 2 but class_names has 2 names"):
        data.mnist(tmp_path, ["shirt", "boot"])
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    missing = re.escape(str(tmp_path / "t10k-images-idx3-ubyte.gz"))
    with pytest.raises(data.DataError, match=f"{missing}: No such file"):
        data.mnist(tmp_path)
