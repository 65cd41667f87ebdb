"""The ring adds up what all members give it, in any order, or all of them learn that it cannot."""

from __future__ import annotations

import ctypes
import random
import socket
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.ring.rings import DIFFERS, LOST, REFUSED, SUMMED, member, ring

FLOAT = 1
# As TensorFlow numbers them.
DTYPES = {
    "float32": (1, np.float32),
    "float64": (2, np.float64),
    "int32": (3, np.int32),
    "int64": (9, np.int64),
    "bfloat16": (14, ml_dtypes.bfloat16),
    "float16": (19, np.float16),
}
FRAME = 512 << 10
HEADER = struct.Struct("=QQII")


def floats(*sizes: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(size).astype(np.float32) for size in sizes]


@pytest.mark.parametrize("members", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param((1,), id="one element"),
        pytest.param((), id="nothing"),
        pytest.param((0, 0), id="empty tensors"),
        pytest.param((3, 0, 1, 7), id="some empty"),
        pytest.param((1,) * 200, id="many"),
        pytest.param((FRAME // 4, FRAME // 4), id="whole frames"),
        pytest.param((FRAME // 4 * 5 + 1, 11, FRAME // 2 - 3), id="frames over tensors"),
        pytest.param((700_003,), id="large"),
    ],
)
def test_all_members_get_the_same_bits_of_the_sum(
    library: ctypes.CDLL, members: int, sizes: tuple[int, ...]
) -> None:
    given = [floats(*sizes, seed=rank) for rank in range(members)]
    wanted = [np.sum([of[i] for of in given], axis=0, dtype=np.float64) for i in range(len(sizes))]
    with ring(library, members) as all_of_it:
        reductions = [m.start(1, given[rank], FLOAT) for rank, m in enumerate(all_of_it)]
        assert [r.outcome() for r in reductions] == [SUMMED] * members
    for i, total in enumerate(wanted):
        np.testing.assert_allclose(given[0][i], total, rtol=1e-4, atol=1e-5)
        for other in given[1:]:
            np.testing.assert_array_equal(given[0][i], other[i])


@pytest.mark.parametrize("members", [2, 3])
@pytest.mark.parametrize("name", DTYPES)
def test_every_type_is_added_as_numpy_adds_it(
    library: ctypes.CDLL, name: str, members: int
) -> None:
    dtype, kind = DTYPES[name]
    # Every pattern of 16 bits, so subnormals, infinities and the rounding of ties are among them.
    patterns = np.arange(1 << 16, dtype=np.uint16)
    rng = np.random.default_rng(0)
    if np.dtype(kind).itemsize == 2:
        given = [rng.permutation(patterns).view(kind) for _ in range(members)]
    elif np.issubdtype(kind, np.integer):
        # Some sums wrap.
        most = np.iinfo(kind).max
        given = [rng.integers(-most, most, 1 << 16, kind) for _ in range(members)]
    else:
        given = [(rng.standard_normal(1 << 16) * 1e9).astype(kind) for _ in range(members)]
    # Where members add in another order than these, two addends make no difference.
    if members > 2:
        given[2:] = [np.zeros_like(given[0]) for _ in given[2:]]
    with np.errstate(all="ignore"):
        wanted = given[0] + given[1]
    with ring(library, members) as all_of_it:
        reductions = [m.start(1, [given[rank]], dtype) for rank, m in enumerate(all_of_it)]
        assert [r.outcome() for r in reductions] == [SUMMED] * members
    for values in given:
        # NumPy knows what is not a number only of its own types.
        exact = np.float64 if np.dtype(kind).itemsize == 2 else kind
        np.testing.assert_array_equal(values.astype(exact), wanted.astype(exact))


def test_a_second_ring_gives_the_same_bits(library: ctypes.CDLL) -> None:
    results = []
    for _ in range(2):
        given = [floats(100_003, seed=rank) for rank in range(5)]
        with ring(library, 5) as members:
            for reduction in [m.start(1, given[r], FLOAT) for r, m in enumerate(members)]:
                assert reduction.outcome() == SUMMED
        results.append(given[0][0])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("members", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_reductions_under_way_at_once_may_be_started_in_any_order(
    library: ctypes.CDLL, members: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sizes = [tuple(int(n) for n in rng.integers(0, 100_000, 3)) for _ in range(6)]
    given = [[floats(*s, seed=rank) for s in sizes] for rank in range(members)]
    wanted = [
        [np.sum([of[key][i] for of in given], axis=0, dtype=np.float64) for i in range(3)]
        for key in range(6)
    ]
    with ring(library, members) as all_of_it:
        started = []
        for rank, one in enumerate(all_of_it):
            order = list(range(6))
            random.Random(seed * 10 + rank).shuffle(order)
            started += [one.start(key + 1, given[rank][key], FLOAT) for key in order]
        assert {reduction.outcome() for reduction in started} == {SUMMED}
    for rank in range(members):
        for key in range(6):
            for i in range(3):
                np.testing.assert_allclose(
                    given[rank][key][i], wanted[key][i], rtol=1e-4, atol=1e-5
                )


@pytest.mark.parametrize("members", [2, 3])
def test_those_of_one_key_follow_each_other(library: ctypes.CDLL, members: int) -> None:
    given = [
        [np.full(100_000, 10 * i + rank, np.float32) for i in range(5)] for rank in range(members)
    ]
    with ring(library, members) as all_of_it:
        started = [
            one.start(7, [given[rank][i]], FLOAT)
            for rank, one in enumerate(all_of_it)
            for i in range(5)
        ]
        assert {reduction.outcome() for reduction in started} == {SUMMED}
    for rank in range(members):
        for i in range(5):
            assert set(given[rank][i]) == {sum(10 * i + r for r in range(members))}


def test_a_member_that_is_late_finds_what_came_before(library: ctypes.CDLL) -> None:
    given = [floats(300_000, seed=rank) for rank in range(2)]
    other = [floats(10, seed=rank) for rank in range(2)]
    with ring(library, 2) as (early, late):
        first = early.start(1, given[0], FLOAT)
        # Once this is through, all that could come of the first has come and lies there.
        both = [early.start(2, other[0], FLOAT), late.start(2, other[1], FLOAT)]
        assert [r.outcome() for r in both] == [SUMMED] * 2
        assert not first.ended
        assert late.start(1, given[1], FLOAT).outcome() == SUMMED
        assert first.outcome() == SUMMED
    np.testing.assert_array_equal(given[0][0], given[1][0])


@pytest.mark.parametrize("members", [2, 3, 5])
def test_different_tensors_under_one_key_are_an_error(library: ctypes.CDLL, members: int) -> None:
    with ring(library, members) as all_of_it:
        reductions = [
            one.start(1, floats(10 + rank, seed=0), FLOAT) for rank, one in enumerate(all_of_it)
        ]
        outcomes = {reduction.outcome() for reduction in reductions}
        assert outcomes <= {DIFFERS, LOST}
        errors = [r.error for r in reductions if r.outcome() == DIFFERS]
    assert errors
    assert all("reduce the same shapes in the same order on all" in error for error in errors)


@pytest.mark.parametrize("members", [2, 3, 5])
def test_one_who_leaves_takes_the_ring_along(library: ctypes.CDLL, members: int) -> None:
    with ring(library, members) as all_of_it:
        waiting = [one.start(1, floats(1000, seed=0), FLOAT) for one in all_of_it[1:]]
        all_of_it[0].close()
        assert {reduction.outcome() for reduction in waiting} == {LOST}
        after = all_of_it[1].start(2, floats(1, seed=0), FLOAT)
        assert after.outcome() == LOST
        assert "worker" in after.error


def test_a_member_that_falls_silent_is_lost(library: ctypes.CDLL) -> None:
    # Nobody is at the other ends.
    (left, before), (right, after) = socket.socketpair(), socket.socketpair()
    one = member(library, 0, 2, left, right, 50)
    with before, after:
        reduction = one.start(1, floats(10, seed=0), FLOAT)
        assert reduction.outcome() == LOST
        assert "silent" in reduction.error
        one.close()


def test_members_without_work_keep_each_other_from_being_lost(library: ctypes.CDLL) -> None:
    (left, before), (right, after) = socket.socketpair(), socket.socketpair()
    one = member(library, 0, 2, left, right, 1000)
    with before, after:
        # Several signs of life, and no other word.
        assert after.recv(HEADER.size, socket.MSG_WAITALL) == bytes(HEADER.size)
        assert after.recv(HEADER.size, socket.MSG_WAITALL) == bytes(HEADER.size)
        one.close()


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(HEADER.pack(1, 40, 2**31, FLOAT), id="a frame of gigabytes"),
        pytest.param(HEADER.pack(1, 40, 0, FLOAT), id="an empty frame"),
        pytest.param(HEADER.pack(1, 40, 36, FLOAT), id="more than its block"),
        pytest.param(HEADER.pack(1, 40, 3, FLOAT), id="less than its block"),
    ],
)
def test_nonsense_breaks_the_ring_and_nothing_else(library: ctypes.CDLL, header: bytes) -> None:
    (left, before), (right, after) = socket.socketpair(), socket.socketpair()
    one = member(library, 0, 2, left, right, 60_000)
    with before, after:
        reduction = one.start(1, floats(10, seed=0), FLOAT)
        # It is started, because its first frame has come.
        after.recv(HEADER.size + 20, socket.MSG_WAITALL)
        before.sendall(header)
        assert reduction.outcome() == LOST
        assert "nonsense" in reduction.error
        one.close()


def test_a_type_that_cannot_be_added_is_refused(library: ctypes.CDLL) -> None:
    with ring(library, 2) as (one, _):
        reduction = one.start(1, floats(10, seed=0), 7)
        assert reduction.outcome() == REFUSED
        assert "type" in reduction.error
