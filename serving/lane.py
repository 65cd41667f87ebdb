"""The way to one signature of one version: questions wait, are put together, and are asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from serving import batching
from serving.errors import Code, Refused
from serving.models import Entry
from serving.signatures import Arrays

_log = logging.getLogger(__name__)

_Answer = Arrays | Refused


@dataclass(frozen=True, slots=True)
class Limits:
    """most_rows: examples asked about at once; parallel: calls of a signature at the same time;
    most_waiting: questions that may wait for a signature."""

    most_rows: int = 128
    parallel: int = 2
    most_waiting: int = 1000


@dataclass(frozen=True, slots=True)
class _Waiting:
    inputs: Arrays
    size: batching.Size
    answer: asyncio.Future[Arrays]


class Lane:
    """Asks one signature. Belongs to one event loop."""

    def __init__(self, target: Entry, threads: ThreadPoolExecutor, limits: Limits) -> None:
        self.signature = target.signature
        self._call = target.call
        self._threads = threads
        self._limits = limits
        self._waiting: list[_Waiting] = []
        self._running = 0

    async def ask(self, inputs: Arrays) -> Arrays:
        """Return all outputs. Raises Refused. Whoever stops waiting is not asked for any more."""
        rows = self.signature.check(inputs)
        if len(self._waiting) >= self._limits.most_waiting:
            raise Refused(
                Code.UNAVAILABLE,
                f"{len(self._waiting)} questions are waiting already; ask again later",
            )
        size = batching.Size(rows, batching.form_of(inputs))
        answer: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(inputs, size, answer))
        self._start()
        return await answer

    def _start(self) -> None:
        """Begin calls, as long as something waits and few enough are running."""
        while self._running < self._limits.parallel:
            self._waiting = [one for one in self._waiting if not one.answer.done()]
            places = batching.take([one.size for one in self._waiting], self._limits.most_rows)
            if not places:
                return
            batch = [self._waiting[place] for place in places]
            for place in reversed(places):
                del self._waiting[place]
            self._running += 1
            loop = asyncio.get_running_loop()
            asked = loop.run_in_executor(self._threads, self._asked, batch)
            asked.add_done_callback(lambda done, batch=batch: self._done(batch, done))  # type: ignore[misc]

    def _done(self, batch: Sequence[_Waiting], asked: asyncio.Future[list[_Answer]]) -> None:
        self._running -= 1
        failure = asked.exception()
        if failure is None:
            answers: Sequence[_Answer] = asked.result()
        else:
            _log.error("a defect of the service, or of the model", exc_info=failure)
            told = Refused(Code.INTERNAL, "failed; the log of the service says why")
            answers = [told for _ in batch]
        for one, answer in zip(batch, answers, strict=True):
            if one.answer.done():
                continue
            if isinstance(answer, Refused):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
        self._start()

    # In a thread.

    def _asked(self, batch: Sequence[_Waiting]) -> list[_Answer]:
        """Return the answer to each question. What one of them does wrong is its own."""
        if len(batch) == 1:
            return [self._alone(batch[0].inputs)]
        try:
            outputs = self._call(batching.join([one.inputs for one in batch]))
            parts = batching.part(outputs, [one.size.rows or 0 for one in batch])
        except Refused:
            parts = None
        return list(parts) if parts else [self._alone(one.inputs) for one in batch]

    def _alone(self, inputs: Arrays) -> _Answer:
        try:
            return self._call(inputs)
        except Refused as refused:
            return refused
