"""Lets two sides take turns, and reads off what each did.

Only two at a time: a side that stands still answers no heartbeat, and in a group of the service
TensorFlow waits 2.5 s for an answer (half of `trainer.strategy.HEARTBEAT_MS`). With a third side
each would stand still for two turns. So more sides are compared pair by pair.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import psutil
from rich.progress import track

from benchmarks.rates import Block, Rate
from benchmarks.sides import pinning
from benchmarks.turns import Side, Turns

LONGEST_TURN_S = 1.5
WHY_SHORT = "in a side that stands still for longer TensorFlow's own heartbeats fail"
# How long a side that rests stands still at a time, and runs in between: the service's agents must
# get a word through to the controller every 6 s, beside a trainer and all that the other side does.
_REST_S, _MOMENT_S = 1.0, 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How long two sides are compared."""

    blocks: int
    turns: int
    seconds: float
    warm_up_steps: int


@dataclass(frozen=True, slots=True)
class Contender:
    """A side that is not started yet, and what is known of it."""

    start: Callable[[], Side]
    workers: int
    # Examples that one of its steps takes.
    batch: int
    cores_each: int = 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of the turns of two sides; of what is there twice, ours comes first."""

    blocks: list[Block]
    # Seconds from the first turn's beginning to the last one's end, and what fell into them.
    seconds: float
    checkpoints: tuple[int, int]
    # By kind of process.
    memory_mib: tuple[dict[str, float], dict[str, float]]
    # How many cores everything but the two sides kept busy: other programs, above all.
    cores_elsewhere: float


def compare(ours: Contender, theirs: Contender, plan: Plan) -> Comparison:
    """Start both, let them warm up and take their turns, and end them. Raises SideFailed."""
    with closing(ours.start()) as our_side, Turns(our_side) as our_turns:
        _warm_up(ours, our_side, plan)
        with (
            # While theirs starts, it needs the cores more.
            _resting(our_turns) as enough,
            closing(theirs.start()) as their_side,
            Turns(their_side) as their_turns,
        ):
            _warm_up(theirs, their_side, plan)
            enough()
            our_turns.stop()
            their_turns.stop()
            found = _take_turns((our_turns, ours.batch), (their_turns, theirs.batch), plan)
            for turns in (our_turns, their_turns):
                turns.go()
                turns.side.check()
    return found


def _warm_up(contender: Contender, side: Side, plan: Plan) -> None:
    side.wait_for(plan.warm_up_steps)
    pinning.check(side, contender.workers, contender.cores_each)


@contextmanager
def _resting(turns: Turns) -> Iterator[Callable[[], None]]:
    """Let a side run for a moment now and then only; yields what ends its rest."""
    ended = threading.Event()

    def rest() -> None:
        while not ended.is_set():
            turns.stop()
            ended.wait(_REST_S)
            turns.go()
            ended.wait(_MOMENT_S)

    thread = threading.Thread(target=rest)
    thread.start()

    def enough() -> None:
        ended.set()
        thread.join()

    try:
        yield enough
    finally:
        enough()


def _take_turns(ours: tuple[Turns, int], theirs: tuple[Turns, int], plan: Plan) -> Comparison:
    """Let two sides that stand still take turns; each comes with the batch of its steps."""
    both = (ours, theirs)
    # Starting, warming up and resting were turns too.
    first = [len(turns.cpu_s) for turns, _ in both]
    count = plan.blocks * plan.turns
    began, busy_s = time.time(), _busy_s()
    for number in track(range(count), "turns of both"):
        # Who is first changes, so that neither always follows the other's last caches.
        for turns, _ in both if number % 2 else reversed(both):
            turns.take(plan.seconds)
    ended, busy_s = time.time(), _busy_s() - busy_s
    used_s = sum(
        sum(turns.cpu(start, start + count).values())
        for (turns, _), start in zip(both, first, strict=True)
    )
    for turns, _ in both:
        turns.finish()
    blocks = [
        Block(
            *(
                Rate.of(turns, start + done, plan.turns, batch=batch)
                for (turns, batch), start in zip(both, first, strict=True)
            )
        )
        for done in range(0, count, plan.turns)
    ]
    saved = [sum(began < at < ended for at in turns.side.checkpoint_times) for turns, _ in both]
    return Comparison(
        blocks,
        seconds=ended - began,
        checkpoints=(saved[0], saved[1]),
        memory_mib=(memory_mib(ours[0].side), memory_mib(theirs[0].side)),
        cores_elsewhere=(busy_s - used_s) / (ended - began),
    )


def memory_mib(side: Side) -> dict[str, float]:
    """Return the memory of a side by kind of process: of a page that several share, each has its
    part (PSS)."""
    found: dict[str, float] = {}
    for kind, process in side.processes():
        with suppress(psutil.Error):
            found[kind] = found.get(kind, 0.0) + process.memory_full_info().pss / 2**20
    return found


def _busy_s() -> float:
    """Return the seconds that the machine's cores have been busy, all added up."""
    times = psutil.cpu_times()
    # A guest's time is in the user's already.
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
