"""Which questions are asked together, and how answers are taken apart again. Pure.

Nobody waits for company: while the model computes, questions gather, and whatever has gathered
goes next. A lone question is asked at once, and under load the batches grow by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.signatures import Arrays


@dataclass(frozen=True, slots=True)
class Size:
    """What matters of a waiting question. rows: None if it can only be asked alone; form: equal
    for questions that can be put together."""

    rows: int | None
    form: tuple[Any, ...] = ()


def form_of(inputs: Arrays) -> tuple[Any, ...]:
    """Return what must be equal of questions that are asked together: all but the first size."""
    return tuple((name, inputs[name].shape[1:]) for name in sorted(inputs))


def take(waiting: Sequence[Size], most_rows: int) -> tuple[int, ...]:
    """Return the positions of those to ask next, in order: the oldest, and all that fit to it.

    At least one, unless nothing waits: a question of more than `most_rows` is asked alone.
    """
    if not waiting:
        return ()
    first = waiting[0]
    if first.rows is None:
        return (0,)
    taken, rows = [0], first.rows
    for place, size in enumerate(waiting[1:], 1):
        if size.rows is not None and size.form == first.form and rows + size.rows <= most_rows:
            taken.append(place)
            rows += size.rows
    return tuple(taken)


def join(questions: Sequence[Arrays]) -> Arrays:
    """Return the inputs of several questions as those of one."""
    if len(questions) == 1:
        return questions[0]
    return {name: np.concatenate([q[name] for q in questions]) for name in questions[0]}


def part(outputs: Arrays, rows: Sequence[int]) -> list[Arrays] | None:
    """Return the outputs of each question of so many rows.

    None if an output has not as many rows as were asked: then it cannot be said whose is whose.
    """
    if any(array.shape[:1] != (sum(rows),) for array in outputs.values()):
        return None
    ends = np.cumsum(rows)
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for count, end in zip(rows, ends, strict=True)
    ]
