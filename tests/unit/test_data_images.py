"""Folders of pictures: classes, decoding, and broken files by name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from trainer import data
from trainer.data import order

COLOURS = {"blue": [0, 0, 200], "green": [0, 150, 0], "red": [250, 0, 0]}


def picture(colour: list[int], size: int = 12) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (size, size, 3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for name, colour in COLOURS.items():
        (root / name / "deeper").mkdir(parents=True)
        jpeg = tf.io.encode_jpeg(picture(colour), quality=100).numpy()
        (root / name / "1.jpg").write_bytes(jpeg)
        png = tf.io.encode_png(picture(colour, 20)).numpy()
        # The ending does not count.
        (root / name / "deeper" / "2.jpg").write_bytes(png)
        (root / name / ".hidden.txt").write_text("x")
        (root / name / "Thumbs.db").write_text("x")
    (root / ".git").mkdir()
    (root / "LICENSE").write_text("x")
    return root


def test_sub_folders_are_the_classes_and_pictures_are_resized(folder: Path) -> None:
    examples = data.image_folder(folder, size=(6, 8))
    assert examples.size == 6
    assert examples.class_names == ("blue", "green", "red")
    assert examples.element_spec == (
        tf.TensorSpec([6, 8, 3], tf.uint8),
        tf.TensorSpec([], tf.int64),
    )
    features, labels = examples.fetch(tf.range(6, dtype=tf.int64))
    assert labels.numpy().tolist() == [0, 0, 1, 1, 2, 2]
    for pixels, label in zip(features.numpy(), labels.numpy(), strict=True):
        expected = picture(list(COLOURS.values())[label])[:6, :8]
        expected = np.broadcast_to(expected[0, 0], (6, 8, 3))
        assert np.abs(pixels.astype(int) - expected).max() <= 3


def test_grey_is_one_channel(folder: Path) -> None:
    features, _ = data.image_folder(folder, size=(4, 4), channels=1).fetch(
        tf.constant([0], tf.int64)
    )
    assert features.shape == [1, 4, 4, 1]


def dataset_of(examples: data.Examples):
    return order.replica_dataset(
        examples,
        seed=1,
        global_batch=4,
        replicas_total=1,
        first_replica=0,
        local_replicas=1,
        start_step=0,
    )


def test_batches_have_static_shapes_and_repeat_exactly(folder: Path) -> None:
    dataset = dataset_of(data.image_folder(folder, size=(4, 4)))
    assert dataset.element_spec[0][0].shape == [4, 4, 4, 3]
    first, again = ([x.numpy().tolist() for (x, _), *_ in dataset.take(5)] for _ in range(2))
    assert first == again


def test_a_picture_that_breaks_while_it_is_decoded_is_named(folder: Path) -> None:
    bad = folder / "green" / "1.jpg"
    content = bad.read_bytes()
    # Begins and ends as a picture does, so that only decoding finds it out.
    bad.write_bytes(content[:4] + bytes(len(content) - 8) + content[-4:])
    examples = data.image_folder(folder, size=(4, 4))
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(str(bad))):
        list(dataset_of(examples).take(6))
    with pytest.raises(tf.errors.InvalidArgumentError, match="(?s)remove them.*" + str(bad)):
        examples.fetch(tf.constant([2], tf.int64))


def test_a_picture_that_goes_away_is_named(folder: Path) -> None:
    examples = data.image_folder(folder, size=(4, 4))
    gone = folder / "red" / "deeper" / "2.jpg"
    gone.unlink()
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(str(gone))):
        list(dataset_of(examples).take(6))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing at byte 0"),
        (b"hello world", "begins with 68 65 6c 6c 6f 20 77 6f at byte 0"),
        (b"\xff\xd8\xff" + bytes(9000), "truncated, its end is missing at byte 9003"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "truncated"),
        (b"BM" + (999).to_bytes(4, "little") + bytes(20), "truncated"),
    ],
)
def test_what_is_no_picture_is_named_when_the_folder_is_opened(
    folder: Path, content: bytes, message: str
) -> None:
    bad = folder / "red" / "bad.jpg"
    bad.write_bytes(content)
    with pytest.raises(data.DataError, match=rf"^{re.escape(str(bad))}: .*{message}"):
        data.image_folder(folder, size=(4, 4))


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    def opened() -> data.Examples:
        return data.image_folder(tmp_path / "root", size=(4, 4))

    with pytest.raises(data.DataError, match=r"root: No such file.*check the path"):
        opened()
    (tmp_path / "root").mkdir()
    with pytest.raises(data.DataError, match="nothing in it"):
        opened()
    (tmp_path / "root" / "a.jpg").write_bytes(b"x")
    with pytest.raises(data.DataError, match="none, but 1 files"):
        opened()
    (tmp_path / "root" / "cats").mkdir()
    with pytest.raises(data.DataError, match="only one, 'cats'"):
        opened()
    (tmp_path / "root" / "dogs").mkdir()
    with pytest.raises(data.DataError, match="cats: this class has no picture"):
        opened()
    with pytest.raises(data.DataError, match="Not a directory"):
        data.image_folder(tmp_path / "root" / "a.jpg", size=(4, 4))


@pytest.mark.parametrize(("size", "channels"), [((0, 4), 3), ((4, 4), 2)])
def test_impossible_pictures_are_refused(folder: Path, size, channels: int) -> None:
    with pytest.raises(data.DataError, match="give"):
        data.image_folder(folder, size=size, channels=channels)
