"""Which part of its time a job is in, from what is seen of its workers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.ledger import Ledger, Part
from controller.model import (
    MemberSeen,
    Outcome,
    Phase,
    Progress,
    Reason,
    Seen,
    Stage,
    Status,
)
from controller.rendezvous import rendezvous
from tests.builders import T0, agent, at, idle, job, left, running, seen

BOOKS = Ledger(Part.USEFUL, T0)


def look(status: Status, world: Seen, seconds: float = 0.0, **spec: bool) -> Status:
    return rendezvous(job(status, **spec), world, at(seconds)).status


def at_stage(stage: Stage) -> Seen:
    return seen(agent(0, running=1, stage=stage), agent(1, running=1))


@pytest.mark.parametrize(
    ("status", "world", "part"),
    [
        pytest.param(running(), at_stage(Stage.STARTING), Part.START, id="starting"),
        pytest.param(running(), at_stage(Stage.RESTORING), Part.RESTORE, id="restoring"),
        pytest.param(running(), at_stage(Stage.RECOMPUTING), Part.RECOMPUTE, id="recomputing"),
        pytest.param(running(), at_stage(Stage.TRAINING), Part.USEFUL, id="training"),
        pytest.param(running(), at_stage(Stage.EVALUATING), Part.OTHER, id="evaluating"),
        pytest.param(running(), at_stage(Stage.FINISHING), Part.OTHER, id="finishing"),
        pytest.param(
            running(), seen(left(0, Outcome.DONE), agent(1, running=1)), Part.OTHER, id="done"
        ),
        pytest.param(
            running(stopping=True), at_stage(Stage.TRAINING), Part.STOP, id="asked to save"
        ),
        pytest.param(
            running(),
            seen(left(0, Outcome.CRASHED, Reason.TRAINER_KILLED), agent(1, running=1)),
            Part.STOP,
            id="failed",
        ),
        pytest.param(
            running(ledger=BOOKS), seen(agent(1, running=1)), Part.STOP, id="chief's pod is gone"
        ),
        pytest.param(idle(Phase.PENDING), seen(), None, id="never begun"),
        pytest.param(
            idle(Phase.RESTARTING, started=T0, generation=1), seen(), Part.START, id="waiting"
        ),
    ],
)
def test_part(status: Status, world: Seen, part: Part | None) -> None:
    assert look(status, world).ledger.part is part


def test_a_controller_that_has_just_begun_goes_on_with_the_part_that_ran() -> None:
    world = Seen(seen(agent(0), agent(1)).pods, (), since=T0)
    assert look(running(ledger=BOOKS), world, 2).ledger == BOOKS


def test_the_end_closes_the_books() -> None:
    world = seen(left(0, Outcome.DONE), left(1, Outcome.DONE))
    ledger = look(running(ledger=BOOKS), world, 9).ledger
    assert (ledger.part, ledger.useful, ledger.since) == (None, 9.0, None)


def test_a_held_job_has_no_running_part() -> None:
    status = idle(Phase.SUSPENDING, started=T0, generation=1, ledger=BOOKS)
    assert look(status, seen(), 3, suspend=True).ledger.part is None


def killed(seconds: float) -> MemberSeen:
    member = left(1, Outcome.CRASHED, Reason.TRAINER_KILLED)
    assert member.exited is not None
    assert member.exited.failure is not None
    failure = replace(member.exited.failure, time=at(seconds))
    return replace(member, exited=replace(member.exited, step=70, failure=failure))


def test_a_kill_is_booked_from_its_moment_with_its_cause_and_the_furthest_step() -> None:
    status = running(ledger=BOOKS, progress=Progress(step=60))
    status = look(status, seen(agent(0, running=1, step=65, heard=at(10)), killed(8)), 10)
    (cost,) = status.ledger.restarts
    assert (cost.generation, cost.reason, cost.over) == (1, Reason.TRAINER_KILLED, False)
    assert status.ledger.useful == 8.0
    assert status.ledger.lost.detection == 2.0
    assert status.ledger.furthest_step == 70
    # Again the same: nothing is booked twice.
    assert look(status, seen(agent(0, running=1, step=65, heard=at(10)), killed(8)), 10) == status


def test_how_many_steps_are_made_again_is_told_by_the_chief() -> None:
    books = Ledger(Part.START, T0, furthest_step=70).interrupted(
        replace(look(running(), seen(agent(0, running=1), killed(0))).ledger.restarts[0]), T0, T0
    )
    chief = agent(0, running=2, stage=Stage.RECOMPUTING, step=51, base_step=50)
    status = look(running(2, ledger=books), seen(chief, agent(1, running=2)), 4)
    (cost,) = status.ledger.restarts
    assert (cost.steps, cost.over) == (20, False)
    chief = replace(chief, stage=Stage.TRAINING, step=70)
    status = look(status, seen(chief, agent(1, running=2)), 5)
    assert status.ledger.restarts[0].over
    assert status.ledger.lost.recompute == 1.0


def test_a_checkpoint_of_later_steps_than_were_told_of_is_the_furthest() -> None:
    books = Ledger(Part.START, T0, furthest_step=30).interrupted(
        replace(look(running(), seen(agent(0, running=1), killed(0))).ledger.restarts[0]), T0, T0
    )
    chief = agent(0, running=2, stage=Stage.TRAINING, step=51, base_step=50)
    ledger = look(running(2, ledger=books), seen(chief, agent(1, running=2)), 4).ledger
    assert (ledger.restarts[0].steps, ledger.furthest_step) == (0, 50)


def test_a_planned_stop_is_a_cost_with_no_failure() -> None:
    status = look(running(ledger=BOOKS), at_stage(Stage.TRAINING), 5, suspend=True)
    (cost,) = status.ledger.restarts
    assert (cost.reason, status.ledger.part) == ("Planned", Part.STOP)


def test_a_job_that_is_cancelled_pays_for_no_restart() -> None:
    status = look(running(ledger=BOOKS), at_stage(Stage.TRAINING), 5, cancel=True)
    assert (status.ledger.restarts, status.ledger.part) == ((), Part.OTHER)
