"""Long work leaves turns of the event loop to everybody, and its turns go round."""

from __future__ import annotations

import asyncio

from controller.access.slices import Slices


async def test_there_is_a_turn_for_others_after_every_few_items() -> None:
    slices, made, most = Slices(), 0, 0

    def make(number: int) -> int:
        nonlocal made
        made += 1
        return -number

    callers = [name for name in ("ada", "bob", "eve") for _ in range(5)]
    working = asyncio.gather(*(slices.each(name, make, range(200)) for name in callers))
    while not working.done():
        before = made
        await asyncio.sleep(0)
        most = max(most, made - before)
    assert await working == [[-number for number in range(200)]] * len(callers)
    assert made == 200 * len(callers)
    assert 0 < most <= 20


async def test_a_callers_many_lists_count_as_one() -> None:
    slices, made, began = Slices(), {"ada": 0, "bob": 0}, asyncio.Event()

    async def listed(caller: str, size: int) -> None:
        def make(number: int) -> None:
            made[caller] += 1
            began.set()

        await slices.each(caller, make, range(size))

    flood = [asyncio.create_task(listed("ada", 500)) for _ in range(20)]
    await began.wait()
    before = made["ada"]
    await listed("bob", 100)
    assert made["ada"] - before < 200
    assert await asyncio.gather(*flood) == [None] * 20


async def test_nothing_is_made_of_nothing() -> None:
    assert await Slices().each("ada", str, []) == []


async def test_who_gives_up_leaves_the_turn_to_the_next() -> None:
    slices = Slices()
    gone = asyncio.create_task(slices.each("ada", str, range(1000)))
    await asyncio.sleep(0)
    gone.cancel()
    assert await slices.each("ada", str, range(3)) == ["0", "1", "2"]
