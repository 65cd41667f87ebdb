"""The work queue hands out each key when it is due, to one taker at a time."""

import asyncio

from controller.loop import WorkQueue
from controller.model import JobKey

A, B = JobKey("default", "a"), JobKey("default", "b")


async def test_keys_come_in_the_order_they_are_due() -> None:
    queue = WorkQueue()
    queue.add(A, after_s=0.02)
    queue.add(B)
    assert await queue.take() == B
    assert await queue.take() == A


async def test_a_key_asked_for_twice_comes_once_at_the_earlier_time() -> None:
    queue = WorkQueue()
    queue.add(A, after_s=1000)
    queue.add(A)
    queue.add(A, after_s=1000)
    assert await queue.take() == A
    queue.done(A)
    queue.add(B)
    assert await queue.take() == B


async def test_a_taken_key_waits_until_it_is_given_back() -> None:
    queue = WorkQueue()
    queue.add(A)
    assert await queue.take() == A
    queue.add(A)
    queue.add(B, after_s=0.01)
    assert await queue.take() == B
    queue.done(A)
    assert await queue.take() == A


async def test_a_taker_that_waits_is_woken_by_an_earlier_key() -> None:
    queue = WorkQueue()
    queue.add(A, after_s=1000)
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add(B)
    assert await taking == B


async def test_several_takers_share_the_keys() -> None:
    queue = WorkQueue()
    takers = [asyncio.create_task(queue.take()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add(A)
    queue.add(B)
    assert set(await asyncio.gather(*takers)) == {A, B}


async def test_a_key_that_is_taken_tells_how_late_it_was() -> None:
    queue = WorkQueue()
    queue.add(A)
    await asyncio.sleep(0.05)
    queue.add(B)
    for key in (A, B):
        assert await queue.take() == key
    assert queue.late_s(A) >= 0.05 > queue.late_s(B) >= 0
