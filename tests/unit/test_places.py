"""Places are few for all together, go round, and are not kept from those who wait."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from controller.access.places import Places

LONG_S = 3600.0


class People:
    """Callers who hold their places until they are let go."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.inside: Counter[str] = Counter()
        self.came: list[str] = []
        self._goes = asyncio.Semaphore(0)

    def come(self, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._stay(name))

    def let_go(self, count: int = 1) -> None:
        for _ in range(count):
            self._goes.release()

    async def _stay(self, name: str) -> None:
        async with self.places.one(name, LONG_S):
            self.inside[name] += 1
            self.came.append(name)
            try:
                await self._goes.acquire()
            finally:
                self.inside[name] -= 1


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_has_fewest_is_next() -> None:
    people = People(Places(2, pressed_s=LONG_S))
    all_of_them = [people.come("ada") for _ in range(4)]
    await settled()
    all_of_them.append(people.come("bob"))
    await settled()
    assert people.inside == {"ada": 2}
    people.let_go()
    await settled()
    assert people.came == ["ada", "ada", "bob"]
    people.let_go(4)
    await asyncio.gather(*all_of_them)
    assert people.came == ["ada", "ada", "bob", "ada", "ada"]


async def test_nobody_is_patient_with_who_stalls_while_others_wait() -> None:
    people = People(Places(1, pressed_s=0.01))
    stalls = people.come("ada")
    await settled()
    assert not stalls.done()
    waits = people.come("bob")
    with pytest.raises(TimeoutError):
        await stalls
    await settled()
    assert people.inside["bob"] == 1
    people.let_go()
    await waits


async def test_who_comes_to_a_place_that_others_wait_for_has_no_more_time() -> None:
    people = People(Places(1, pressed_s=0.01))
    one, two, three = (people.come(name) for name in ("ada", "bob", "eve"))
    for stalls in (one, two):
        with pytest.raises(TimeoutError):
            await stalls
    await settled()
    assert people.inside["eve"] == 1
    people.let_go()
    await three


async def test_who_goes_away_while_he_waits_leaves_nothing_behind() -> None:
    people = People(Places(1, pressed_s=LONG_S))
    first, second, third = (people.come(name) for name in ("ada", "bob", "eve"))
    await settled()
    second.cancel()
    # Of one who is called and goes at that very moment the place is not lost either.
    people.let_go()
    await settled()
    assert people.came == ["ada", "eve"]
    fourth, fifth = people.come("bob"), people.come("ada")
    await settled()
    people.let_go()
    fourth.cancel()
    await asyncio.gather(first, third)
    people.let_go()
    await fifth
    assert people.came == ["ada", "eve", "ada"]
    assert people.inside.total() == 0
