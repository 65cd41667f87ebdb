"""Examples: random access, and what is made out of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from trainer import data
from trainer.data.mixing import mix, mix_array, mix_tensor


def numbers(size: int = 10) -> data.Examples:
    return data.arrays(np.arange(size, dtype=np.int64), -np.arange(size, dtype=np.int64))


def all_of(examples: data.Examples) -> list[int]:
    features, labels = examples.fetch(tf.range(examples.size, dtype=tf.int64))
    assert (features == -labels).numpy().all()
    return features.numpy().tolist()


def test_fetch_returns_the_examples_asked_for_in_that_order() -> None:
    features, labels = numbers().fetch(tf.constant([7, 0, 7], tf.int64))
    assert features.numpy().tolist() == [7, 0, 7]
    assert labels.numpy().tolist() == [-7, 0, -7]


def test_fetch_works_in_a_graph_and_in_a_data_set() -> None:
    dataset = tf.data.Dataset.from_tensors(tf.constant([3, 1], tf.int64)).map(numbers().fetch)
    ((features, _),) = dataset
    assert features.numpy().tolist() == [3, 1]


def test_take_and_skip() -> None:
    assert all_of(numbers().take(3)) == [0, 1, 2]
    assert all_of(numbers().take(99)) == list(range(10))
    assert all_of(numbers().skip(7)) == [7, 8, 9]
    assert all_of(numbers().skip(2).take(5).skip(1)) == [3, 4, 5, 6]


@pytest.mark.parametrize("none", [lambda e: e.take(0), lambda e: e.skip(10), lambda e: e.skip(-1)])
def test_a_part_without_examples_is_refused(none) -> None:
    with pytest.raises(data.DataError):
        none(numbers())


def test_split_divides_at_random_and_always_alike() -> None:
    first, second = numbers(1000).split(0.8, seed=1)
    assert (first.size, second.size) == (800, 200)
    assert sorted(all_of(first) + all_of(second)) == list(range(1000))
    assert all_of(numbers(1000).split(0.8, seed=1)[1]) == all_of(second)
    assert all_of(numbers(1000).split(0.8, seed=2)[1]) != all_of(second)
    # A split is part of a job's result, so it is pinned: it may never change.
    assert all_of(numbers().split(0.5, seed=0)[0]) == PINNED_SPLIT


PINNED_SPLIT = [1, 4, 5, 6, 7]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, 2.0, 0.001])
def test_split_refuses_to_leave_a_part_empty(fraction: float) -> None:
    with pytest.raises(data.DataError, match=r"split\("):
        numbers().split(fraction, seed=1)


def test_map_applies_to_batches_and_keeps_names_of_classes() -> None:
    examples = data.arrays(np.arange(4.0), np.zeros(4, np.int64), ["a"])
    mapped = examples.map(lambda x, y: ({"double": x * 2}, y))
    features, _ = mapped.fetch(tf.constant([3], tf.int64))
    assert features["double"].numpy().tolist() == [6.0]
    assert mapped.class_names == ("a",)
    assert mapped.take(2).class_names == ("a",)


def test_map_says_what_its_function_must_return() -> None:
    with pytest.raises(data.DataError, match="features, labels"):
        numbers().map(lambda x, y: x).fetch(tf.constant([0], tf.int64))


def test_element_spec_is_that_of_one_example() -> None:
    examples = data.arrays({"a": np.zeros((4, 2, 3))}, np.zeros(4, np.int64))
    features, labels = examples.element_spec
    assert features == {"a": tf.TensorSpec([2, 3], tf.float32)}
    assert labels == tf.TensorSpec([], tf.int64)


def test_augment_twice_uses_different_seeds_and_repeats_itself_without_keys() -> None:
    def collect(x, y, seeds):
        return tf.concat(
            [tf.reshape(tf.cast(x, tf.int64), [2, -1]), tf.cast(seeds, tf.int64)], 1
        ), y

    examples = numbers().augment(collect).augment(collect)
    rows = examples.fetch(tf.constant([4, 5], tf.int64))[0].numpy()
    assert rows.tolist() == examples.fetch(tf.constant([4, 5], tf.int64))[0].numpy().tolist()
    assert len(set(rows[:, 1:].flatten().tolist())) == 8


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros(3), np.zeros(4), "one length"),
        ({"a": np.zeros(3), "b": np.zeros(2)}, np.zeros(3), "one length"),
        (np.zeros(0), np.zeros(0), "empty"),
        (np.float32(1), np.zeros(1), "single value"),
        (np.array([{}, {}]), np.zeros(2), "x has dtype object"),
        ({"a": [[1], [1, 2]]}, np.zeros(2), r"x\['a'\] is not an array"),
        ({}, (), "no array"),
    ],
)
def test_arrays_refuses_what_are_no_examples(x, y, message: str) -> None:
    with pytest.raises(data.DataError, match=message):
        data.arrays(x, y)


def test_arrays_of_text_keep_it() -> None:
    features, _ = data.arrays(np.array(["ä", "bc"]), [0, 1]).fetch(tf.constant([1, 0], tf.int64))
    assert features.numpy().tolist() == [b"bc", "ä".encode()]


def test_the_hash_is_one_function_in_its_three_forms() -> None:
    # First outputs of SplitMix64 seeded with 0 and 1, from its reference implementation.
    assert (mix(0), mix(1)) == (0xE220A8397B1DCDAF, 0x910A2DEC89025CC1)
    values = [0, 1, 2**63, 2**64 - 1, 123456789]
    expected = [mix(value) for value in values]
    assert mix_array(np.array(values, np.uint64)).tolist() == expected
    assert mix_tensor(tf.constant(values, tf.uint64)).numpy().tolist() == expected
