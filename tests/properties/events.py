"""Random lives of a job: what can happen to the small world, weighted toward progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import strategies as st

from controller.model import EVALUATOR, Failure, Outcome, Reason
from tests.scenarios import course
from tests.scenarios import world as w
from tests.scenarios.world import World

Event = Callable[[World], World]
# What happens, and after how many orders of the pass that follows the controller dies, if it does.
Moment = tuple[tuple[str, Event], int | None]

_BAD_ENDS = (
    (Outcome.CRASHED, Reason.TRAINER_CRASHED),
    (Outcome.CRASHED, Reason.OUT_OF_MEMORY),
    (Outcome.CRASHED, Reason.TRAINER_KILLED),
    (Outcome.PEER_LOST, Reason.PEER_LOST),
    (Outcome.INVALID, Reason.INVALID_PROGRAM),
    (Outcome.STOPPED, "Stopped"),
)


def _progress(world: World) -> World:
    """One good second: everybody does what it should."""
    return w.report(w.step(w.collectives(w.kubelet(course.tick(world, 1.0)))))


def _later(seconds: float) -> Event:
    return lambda world: course.tick(world, seconds)


def _pods_only(world: World) -> World:
    return w.kubelet(world)


def _ends(index: int, end: tuple[Outcome, str]) -> Event:
    outcome, reason = end
    failure = Failure(reason, f"worker {index}: {reason}", index)
    return lambda world: w.ends(world, index, outcome, failure)


def _complete(index: int) -> Event:
    """One member ends well, if its group is complete or the others have ended well."""

    def event(world: World) -> World:
        pod = w.find(world, index)
        trainer = pod.trainer if pod else None
        if trainer is None or not w.may_complete(world, trainer):
            return world
        return w.ends(world, index, Outcome.DONE)

    return event


def _asks(**changes: object) -> Event:
    def event(world: World) -> World:
        if world.job.status.phase.final:
            return world  # The service refuses.
        spec = replace(world.job.spec, **changes)  # type: ignore[arg-type]
        return replace(world, job=replace(world.job, spec=spec))

    return event


def _reach(index: int, *, reachable: bool, hangs_up: bool = False) -> Event:
    return lambda world: w.reach(world, index, reachable=reachable, hangs_up=hangs_up)


def _cut_off(index: int, *, hangs_up: bool) -> Event:
    return lambda world: w.cut_off(world, index, hangs_up=hangs_up)


def _one(name: str, event: Event) -> tuple[str, Event]:
    return name, event


_anyone = st.integers(0, 2) | st.just(EVALUATOR)
_good = st.sampled_from(
    # The first is what a failing life shrinks to.
    [_one("nothing", lambda world: world)]
    + [_one("progress", _progress)] * 6
    + [_one("report", w.report), _one("pods", _pods_only), _one("together", w.collectives)]
    + [_one("finish", w.finish)]
    + [_one(f"later {s}", _later(s)) for s in (0.5, 3, 7)]
)
_faults = st.one_of(
    st.builds(
        lambda i, e: _one(f"worker {i} ends {e[1]}", _ends(i, e)),
        _anyone,
        st.sampled_from(_BAD_ENDS),
    ),
    _anyone.map(lambda i: _one(f"pod {i} fails", lambda world: w.fails(world, i))),
    _anyone.map(lambda i: _one(f"pod {i} vanishes", lambda world: w.vanish(world, i))),
    _anyone.map(lambda i: _one(f"pod {i} refused", lambda world: w.deny(world, i))),
    st.just(_one("all pods allowed", lambda world: replace(world, denied=frozenset()))),
    _anyone.map(lambda i: _one(f"pod {i} leaves", lambda world: w.ask_to_leave(world, i))),
    _anyone.map(lambda i: _one(f"agent {i} silent", _reach(i, reachable=False))),
    st.builds(
        lambda i, hangs_up: _one(f"node {i} cut off", _cut_off(i, hangs_up=hangs_up)),
        _anyone,
        st.booleans(),
    ),
    _anyone.map(lambda i: _one(f"agent {i} hangs up", _reach(i, reachable=False, hangs_up=True))),
    _anyone.map(lambda i: _one(f"agent {i} returns", _reach(i, reachable=True))),
    _anyone.map(lambda i: _one(f"worker {i} completes", _complete(i))),
    st.just(_one("controller restarts", w.restart)),
    st.just(_one("controller stands still", lambda world: course.stand_still(world, 60))),
    # Ahead: where the clock is set back, no books can hold every second once.
    st.just(_one("clock jumps", lambda world: course.set_clock(world, 3600))),
    st.sampled_from([_one(f"later {s}", _later(s)) for s in (20, 40, 400)]),
)
_wishes = st.one_of(
    st.sampled_from([True, False, False]).map(lambda b: _one(f"suspend {b}", _asks(suspend=b))),
    st.integers(1, 3).map(lambda n: _one(f"scale {n}", _asks(workers=n))),
)
_stop = st.just(_one("cancel", _asks(cancel=True)))

# A pass follows every event; in one of eight the controller dies in the middle.
_passes = st.sampled_from([None] * 14 + [0, 1])
_lucky = st.one_of(_good, _good, _good, _good, _good, _good, _good, _faults, _faults, _wishes)
# Whole stretches of luck, or nothing would ever be trained that could be lost.
_stretch = st.just([(_one("progress", _progress), None)] * 3)
_piece = st.one_of(_stretch, st.tuples(_lucky, _passes).map(lambda one: [one]))
# Long, because left to itself hypothesis prefers short lives, in which nothing happens.
lives = st.lists(_piece, min_size=25, max_size=40).map(
    lambda pieces: [one for piece in pieces for one in piece]
)
ends = st.one_of(st.none(), st.none(), st.none(), _stop)
