"""The order of examples: every one once an epoch, the same for any number of workers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from trainer import data
from trainer.data import order

SIZE, BATCH = 23, 10


def share(step: int, replica: int, replicas: int, *, seed: int = 5, size: int = SIZE):
    tensors = order.batch_indices(
        seed,
        tf.constant(step, tf.int64),
        global_batch=BATCH,
        size=size,
        replica=replica,
        replicas=replicas,
    )
    return [tensor.numpy() for tensor in tensors]


def global_batch(step: int, replicas: int, **options: int) -> list[int]:
    """Put the shares of all replicas together, padding left out."""
    batch: list[int] = []
    for replica in range(replicas):
        indices, weights, rows = share(step, replica, replicas, **options)
        assert rows.tolist() == [replica * len(rows) + i for i in range(len(rows))]
        assert weights.tolist() == [float(row < BATCH) for row in rows]
        assert not indices[weights == 0].any()
        batch += indices[weights == 1].tolist()
    return batch


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 7, 10, 13])
def test_any_number_of_replicas_takes_the_same_batches(replicas: int) -> None:
    for step in range(6):
        assert global_batch(step, replicas) == global_batch(step, 1)


def test_every_example_is_met_once_an_epoch_though_batches_span_epochs() -> None:
    sequence = list(itertools.chain.from_iterable(global_batch(s, 1) for s in range(SIZE)))
    epochs = [sequence[i : i + SIZE] for i in range(0, len(sequence), SIZE)]
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 11, 4096, 5000])
def test_an_epoch_is_a_permutation_for_every_size(size: int) -> None:
    indices, _, _ = order.batch_indices(
        5, tf.constant(2, tf.int64), global_batch=size, size=size, replica=0, replicas=1
    )
    assert sorted(indices.numpy().tolist()) == list(range(size))


def test_the_order_is_pinned() -> None:
    # It is part of a job's result: a resumed job must meet what it would have met before.
    assert global_batch(0, 1) == [19, 12, 4, 5, 2, 22, 11, 13, 6, 10]
    batch = global_batch(3, 1, seed=2**40 + 1, size=60_000)
    assert batch == [20967, 36036, 55846, 18350, 23220, 1360, 4678, 56716, 26909, 32775]


def test_seeds_give_different_orders_and_all_their_bits_count() -> None:
    seeds = [0, 1, 2**31, 2**32, 2**32 + 1, 2**63 + 1, -1]
    batches = {tuple(global_batch(0, 1, seed=seed, size=100_000)) for seed in seeds}
    assert len(batches) == len(seeds)


def test_the_order_is_as_even_as_chance_has_it() -> None:
    # With too few rounds of the shuffle, consecutive epochs of this size correlate at 0.9.
    size = 60_000

    def epoch(number: int) -> np.ndarray:
        indices, _, _ = order.batch_indices(
            1, tf.constant(number, tf.int64), global_batch=size, size=size, replica=0, replicas=1
        )
        return indices.numpy()

    epochs = np.stack([epoch(number) for number in range(20)])
    for one, next_one in itertools.pairwise(epochs):
        assert abs(np.corrcoef(one, next_one)[0, 1]) < 5 / size**0.5
    share_of_first_class = (epochs < size // 2).reshape(-1, 50).mean(axis=1)
    assert share_of_first_class.std() == pytest.approx((0.25 / 50) ** 0.5, rel=0.05)


def numbers() -> data.Examples:
    return data.arrays(np.arange(SIZE, dtype=np.int32), np.arange(SIZE, dtype=np.int64) * 2)


def dataset_of(
    examples: data.Examples,
    *,
    seed: int = 5,
    replicas: int = 1,
    first: int = 0,
    local: int = 1,
    start: int = 0,
) -> tf.data.Dataset:
    return order.replica_dataset(
        examples,
        seed=seed,
        global_batch=BATCH,
        replicas_total=replicas,
        first_replica=first,
        local_replicas=local,
        start_step=start,
    )


def replica_elements(count: int, *, replicas: int, first: int, local: int, start: int):
    dataset = dataset_of(numbers(), replicas=replicas, first=first, local=local, start=start)
    (features, _), weights, rows = dataset.element_spec
    assert features.shape == weights.shape == rows.shape == (-(-BATCH // replicas),)
    return [
        (x.tolist(), y.tolist(), w.tolist(), r.tolist())
        for (x, y), w, r in dataset.take(count).as_numpy_iterator()
    ]


def test_no_tuner_holds_up_the_end() -> None:
    assert dataset_of(numbers()).options().autotune.enabled is False


@pytest.mark.parametrize(("replicas", "first", "local"), [(1, 0, 1), (3, 1, 1), (4, 2, 2)])
def test_a_replica_data_set_holds_its_shares_in_turn(replicas: int, first: int, local: int) -> None:
    start, count = 7, 150
    elements = replica_elements(count, replicas=replicas, first=first, local=local, start=start)
    for i, (x, y, w, r) in enumerate(elements):
        indices, weights, rows = share(start + i // local, first + i % local, replicas)
        assert x == indices.tolist()
        assert y == (indices * 2).tolist()
        assert (w, r) == (weights.tolist(), rows.tolist())


def test_a_start_in_the_middle_goes_on_exactly_as_without_one() -> None:
    whole = replica_elements(12, replicas=2, first=0, local=2, start=0)
    assert replica_elements(8, replicas=2, first=0, local=2, start=2) == whole[4:]


@pytest.mark.parametrize("cached", [False, True])
def test_a_function_of_the_user_may_branch_on_a_tensor(cached: bool) -> None:
    def halved(x, y):
        if tf.reduce_sum(y) > 10_000:
            return x, -y
        return x, y // 2

    plain, branching = numbers(), numbers().map(halved)
    if cached:
        plain, branching = plain.cache(), branching.cache()
    assert (plain.plain, branching.plain) == (True, False)
    ((x, y), _, _), *_ = dataset_of(branching).take(1)
    assert y.numpy().tolist() == x.numpy().tolist()


def seeds_met(*, seed: int, replicas: int, steps: int) -> dict[tuple[int, int], tuple[int, ...]]:
    """Return the augmentation seed of each (step, row), collected over all replicas."""
    examples = numbers().augment(lambda x, y, seeds: ((x, seeds), y))
    met = {}
    for replica in range(replicas):
        dataset = dataset_of(examples, seed=seed, replicas=replicas, first=replica)
        for step, (((x, seeds), _), w, rows) in enumerate(dataset.take(steps)):
            for i, row in enumerate(rows.numpy().tolist()):
                if w[i]:
                    met[step, row] = (int(x[i]), *seeds[i].numpy().tolist())
    return met


def test_augmentation_seeds_depend_on_seed_epoch_and_example_alone() -> None:
    met = seeds_met(seed=3, replicas=1, steps=5)
    assert seeds_met(seed=3, replicas=3, steps=5) == met
    # 50 examples met in a bit over two epochs; no two of them share a seed.
    assert len({value[1:] for value in met.values()}) == 50
    assert not {v[1:] for v in met.values()} & {
        v[1:] for v in seeds_met(seed=4, replicas=1, steps=5).values()
    }
