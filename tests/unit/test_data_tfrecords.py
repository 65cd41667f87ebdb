"""TFRecord files: random access, and damage found when they are opened."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import tensorflow as tf

from trainer import data
from trainer.data import order

SPEC = {
    "pixels": tf.io.FixedLenFeature([2], tf.float32),
    "name": tf.io.FixedLenFeature([], tf.string),
    "class": tf.io.FixedLenFeature([], tf.int64),
}


def example(i: int) -> bytes:
    feature = {
        "pixels": tf.train.Feature(float_list=tf.train.FloatList(value=[i, i + 0.5])),
        "name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"n" * i])),
        "class": tf.train.Feature(int64_list=tf.train.Int64List(value=[i % 3])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path: Path, payloads: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path / "a.tfrecord", [example(i) for i in range(4)]),
        write(tmp_path / "b.tfrecord", []),
        write(tmp_path / "c.tfrecord", [example(i) for i in range(4, 7)]),
    ]


def test_records_are_fetched_at_random_over_all_files(files: list[Path]) -> None:
    examples = data.tfrecord(files, SPEC, label="class", class_names=["x", "y", "z"])
    assert examples.size == 7
    assert examples.element_spec == (
        {"pixels": tf.TensorSpec([2], tf.float32), "name": tf.TensorSpec([], tf.string)},
        tf.TensorSpec([], tf.int64),
    )
    features, labels = examples.fetch(tf.constant([6, 0, 3, 4], tf.int64))
    assert features["pixels"].numpy().tolist() == [[6, 6.5], [0, 0.5], [3, 3.5], [4, 4.5]]
    assert features["name"].numpy().tolist() == [b"n" * i for i in (6, 0, 3, 4)]
    assert labels.numpy().tolist() == [0, 0, 0, 1]


def test_one_entry_can_be_the_features(files: list[Path]) -> None:
    examples = data.tfrecord(files[0], SPEC, label="class", features="pixels")
    dataset = order.replica_dataset(
        examples,
        seed=1,
        global_batch=4,
        replicas_total=1,
        first_replica=0,
        local_replicas=1,
        start_step=0,
    )
    assert dataset.element_spec[0][0].shape == [4, 2]
    rows = [x for (batch, _), *_ in dataset.take(1) for x in batch.numpy()[:, 0].tolist()]
    assert sorted(rows) == [0, 1, 2, 3]


def test_the_index_is_kept_and_used_while_the_file_stays(files, tmp_path: Path) -> None:
    kept = tmp_path / "index"

    def opened() -> int:
        return data.tfrecord(files[0], SPEC, label="class", index_folder=kept).size

    assert opened() == 4
    (index,) = kept.iterdir()
    before = files[0].stat()
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    with pytest.raises(data.DataError, match="damaged"):
        opened()
    # With the times of the file that was indexed, it is taken for that file.
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert opened() == 4
    index.write_bytes(b"rubbish")
    with pytest.raises(data.DataError, match="damaged"):
        opened()


@pytest.mark.parametrize("record", [0, 2, 3])
def test_a_flipped_bit_names_file_record_and_byte(files: list[Path], record: int) -> None:
    content = bytearray(files[0].read_bytes())
    start = sum(len(example(i)) + 16 for i in range(record))
    content[start + 20] ^= 4
    files[0].write_bytes(content)
    message = rf"^{re.escape(str(files[0]))}: record {record} at byte {start} is damaged"
    with pytest.raises(data.DataError, match=message):
        data.tfrecord(files, SPEC, label="class")


def test_a_truncated_file_names_the_record(files: list[Path]) -> None:
    content = files[0].read_bytes()
    start = len(content) - len(example(3)) - 16
    for size in (len(content) - 1, start + 12, start + 5):
        files[0].write_bytes(content[:size])
        message = f"record 3 at byte {start} does not fit .* ends at byte {size}"
        with pytest.raises(data.DataError, match=message):
            data.tfrecord(files, SPEC, label="class")


def test_what_is_no_tfrecord_file_is_refused(tmp_path: Path, files: list[Path]) -> None:
    odd = tmp_path / "odd"
    odd.write_bytes(b"hello world, this is text")
    with pytest.raises(data.DataError, match="record 0 at byte 0 does not fit"):
        data.tfrecord(odd, SPEC, label="class")
    odd.write_bytes(b"\x1f\x8b rest")
    with pytest.raises(data.DataError, match="compressed with gzip"):
        data.tfrecord(odd, SPEC, label="class")
    with pytest.raises(data.DataError, match="no record"):
        data.tfrecord(files[1], SPEC, label="class")
    with pytest.raises(data.DataError, match="No such file"):
        data.tfrecord(tmp_path / "absent", SPEC, label="class")
    with pytest.raises(data.DataError, match="'clas' is not in the spec"):
        data.tfrecord(files, SPEC, label="clas")


def test_records_that_do_not_match_the_spec_are_named(tmp_path: Path, files: list[Path]) -> None:
    spec = {**SPEC, "weight": tf.io.FixedLenFeature([], tf.float32)}
    with pytest.raises(data.DataError, match=r"a.tfrecord, record 0: .*weight"):
        data.tfrecord(files, spec, label="class")
    mixed = write(tmp_path / "mixed", [example(0), b"\xff\xff\xff"])
    with pytest.raises(data.DataError, match=r"mixed: record 1 at byte \d+ is no tf.train.Example"):
        data.tfrecord(mixed, SPEC, label="class")
    # As deep as the first record is looked at when the file is opened, the rest when fetched.
    other = tf.train.Example().SerializeToString()
    examples = data.tfrecord(write(tmp_path / "other", [example(0), other]), SPEC, label="class")
    with pytest.raises(tf.errors.InvalidArgumentError, match="other, record 1"):
        examples.fetch(tf.constant([0, 1], tf.int64))


def test_a_file_that_shrinks_while_it_is_trained_on_is_named(files: list[Path]) -> None:
    examples = data.tfrecord(files, SPEC, label="class")
    files[2].write_bytes(b"")
    dataset = tf.data.Dataset.from_tensors(tf.constant([6], tf.int64)).map(examples.fetch)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"c.tfrecord: ends inside the record"):
        list(dataset)
