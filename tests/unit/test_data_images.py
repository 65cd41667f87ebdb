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
    assert sorted(labels.numpy().tolist()) == [0, 0, 1, 1, 2, 2]
    for pixels, label in zip(features.numpy(), labels.numpy(), strict=True):
        expected = picture(list(COLOURS.values())[label])[:6, :8]
        expected = np.broadcast_to(expected[0, 0], (6, 8, 3))
        assert np.abs(pixels.astype(int) - expected).max() <= 3


def test_grey_is_one_channel(folder: Path) -> None:
    features, _ = data.image_folder(folder, size=(4, 4), channels=1).fetch(
        tf.constant([0], tf.int64)
    )
    assert features.shape == [1, 4, 4, 1]


def coloured(folder: Path, number: int, *, name: str = "{0}") -> Path:
    """Fill a folder with as many pictures that all differ, and one class a colour."""
    for i in range(number):
        colour = [i % 256, i // 256 * 50, 7]
        place = folder / sorted(COLOURS)[i % 3] / f"{name.format(i)}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(tf.io.encode_png(picture(colour, 2)).numpy())
    return folder


def seen(examples: data.Examples) -> list[tuple[list[int], int]]:
    """Return (colour, label) of each picture, in order."""
    features, labels = examples.fetch(tf.range(examples.size, dtype=tf.int64))
    return list(zip(features.numpy()[:, 0, 0].tolist(), labels.numpy().tolist(), strict=True))


def test_order_and_split_are_by_content_not_by_name(tmp_path: Path) -> None:
    one = data.image_folder(coloured(tmp_path / "one", 60), size=(2, 2))
    other = data.image_folder(coloured(tmp_path / "other", 60, name="{0:x}-new"), size=(2, 2))
    assert seen(one) == seen(other)
    # Classes are mixed, so that a part from the front is a fair one.
    assert {label for _, label in seen(one.take(12))} == {0, 1, 2}
    for part, same in zip(one.split(0.7, seed=1), other.split(0.7, seed=1), strict=True):
        assert seen(part) == seen(same)


def test_more_pictures_move_none_of_the_others(tmp_path: Path) -> None:
    few = data.image_folder(coloured(tmp_path / "few", 60), size=(2, 2)).split(0.7, seed=1)
    many = data.image_folder(coloured(tmp_path / "many", 200), size=(2, 2)).split(0.7, seed=1)
    for part, larger in zip(few, many, strict=True):
        colours = {tuple(colour) for colour, _ in seen(larger)}
        assert {tuple(colour) for colour, _ in seen(part)} <= colours
    assert many[0].size == pytest.approx(140, abs=20)


def test_a_part_is_divided_again_by_another_hash(tmp_path: Path) -> None:
    _, rest = data.image_folder(coloured(tmp_path / "all", 200), size=(2, 2)).split(0.5, seed=1)
    left, right = rest.split(0.5, seed=1)
    assert left.size == pytest.approx(rest.size / 2, abs=18)
    assert sorted(seen(left) + seen(right)) == sorted(seen(rest))


def test_copies_of_a_picture_are_in_one_part(tmp_path: Path) -> None:
    folder = coloured(tmp_path / "all", 60)
    for file in list(folder.rglob("*.png")):
        (file.parent / f"copy-{file.name}").write_bytes(file.read_bytes())
    examples = data.image_folder(folder, size=(2, 2))
    assert examples.size == 120
    left, right = ({tuple(c) for c, _ in seen(part)} for part in examples.split(0.5, seed=3))
    assert not left & right


def test_a_cache_decodes_once_and_gives_the_same(tmp_path: Path) -> None:
    folder = coloured(tmp_path / "all", 150)
    examples = data.image_folder(folder, size=(2, 2))
    expected = seen(examples)
    cached = examples.cache()
    left, right = cached.split(0.5, seed=1)
    # A graph may be the first to ask.
    dataset = tf.data.Dataset.from_tensors(tf.constant([1, 0], tf.int64)).map(cached.fetch)
    ((_, labels),) = dataset
    assert labels.numpy().tolist() == [expected[1][1], expected[0][1]]
    for file in folder.rglob("*.png"):
        file.unlink()
    assert seen(cached) == expected
    assert sorted(seen(left) + seen(right)) == sorted(expected)


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
        examples.fetch(tf.range(6, dtype=tf.int64))


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
