"""Questions to one signature: put together, bounded, and each answered for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serving.errors import Code, Refused
from serving.lane import Lane, Limits
from tests.serving.models import DEFECT, Models, put
from tests.serving.world import happened


@pytest.fixture
def models() -> Models:
    """Models whose calls can be held up."""
    return Models()


@pytest.fixture
async def lane(models: Models, tmp_path: Path) -> AsyncIterator[Lane]:
    """The way to a model that doubles, one call of at most eight rows at a time."""
    entry = models.load(put(tmp_path, "m", 1, "2")).signatures["serving_default"]
    with ThreadPoolExecutor(1) as threads:
        yield Lane(entry, threads, Limits(most_rows=8, parallel=1, most_waiting=12))
        models.go.set()


async def ask(lane: Lane, value: float, rows: int = 1) -> float:
    """Return what the model says to rows that begin with a value: the same of each."""
    said = await lane.ask({"rows": np.full((rows, 2), value, np.float32)})
    assert said["values"].shape == (rows, 2)
    assert len(set(said["values"].flat)) == 1
    return float(said["values"][0, 0])


async def held_up(lane: Lane, models: Models, *values: float) -> list[asyncio.Task[float]]:
    """Ask about 0, and while that is held up, about the values."""
    models.go.clear()
    tasks = [asyncio.create_task(ask(lane, 0))]
    await happened(models.waiting)
    tasks += [asyncio.create_task(ask(lane, value)) for value in values]
    await asyncio.sleep(0)
    return tasks


async def test_questions_that_wait_are_asked_together(lane: Lane, models: Models) -> None:
    tasks = await held_up(lane, models, *range(1, 11))
    models.go.set()
    assert await asyncio.gather(*tasks) == [2.0 * value for value in range(11)]
    assert models.asked == [1, 8, 2]


async def test_a_question_of_many_rows_is_asked_whole(lane: Lane, models: Models) -> None:
    assert await ask(lane, 3, rows=20) == 6
    assert models.asked == [20]


async def test_one_bad_question_among_many_is_its_own(lane: Lane, models: Models) -> None:
    tasks = await held_up(lane, models, 1, float("nan"), 2)
    models.go.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers.pop(2), Refused)
    assert answers == [0, 2, 4]


async def test_whoever_gives_up_is_not_asked_for(lane: Lane, models: Models) -> None:
    tasks = await held_up(lane, models, 1, 2, 3)
    tasks[2].cancel()
    await asyncio.sleep(0)
    models.go.set()
    assert await asyncio.gather(tasks[0], tasks[1], tasks[3]) == [0, 2, 6]
    assert models.asked == [1, 2]


async def test_what_nobody_foresaw_is_told_and_logged(
    lane: Lane, models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = await held_up(lane, models, DEFECT, 1)
    models.go.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[0] == 0
    assert [a.code for a in answers[1:] if isinstance(a, Refused)] == [Code.INTERNAL] * 2
    assert "ZeroDivisionError" in caplog.text
    assert await ask(lane, 1) == 2


async def test_more_than_may_wait_are_refused_at_once(lane: Lane, models: Models) -> None:
    tasks = await held_up(lane, models, *range(12))
    with pytest.raises(Refused, match="12 questions are waiting already") as refused:
        await ask(lane, 1)
    assert refused.value.code is Code.UNAVAILABLE
    models.go.set()
    await asyncio.gather(*tasks)
