"""What the status says of storage that takes no checkpoints, and what its failures cost."""

from __future__ import annotations

from dataclasses import replace

from controller.model import Checkpoint, Outcome, Phase, Reason, Status, StorageTrouble
from controller.rendezvous import rendezvous
from tests.builders import LONG_AGO, T0, agent, at, job, left, running, seen

FULL = "the checkpoint of step 20 was not saved: No space left on device"
TROUBLE = StorageTrouble(FULL, T0)
SAVED = Checkpoint("step-0000000030.g000001", 30, 1, 1, T0)


def look(chief: object, status: Status | None = None, seconds: float = 0.0) -> Status:
    world = seen(chief, agent(1, running=1))  # type: ignore[arg-type]
    return rendezvous(job(status or running()), world, at(seconds)).status


def test_is_noted_with_the_reason_and_since_when() -> None:
    status = look(agent(0, running=1, saving_fails=FULL))
    assert status.storage_trouble == TROUBLE
    assert status.message == f"training with 2 workers; checkpoints cannot be saved: {FULL}"
    later = look(agent(0, running=1, saving_fails="again"), status, 3)
    assert later.storage_trouble == StorageTrouble("again", T0)
    assert later.phase is Phase.RUNNING


def test_ends_with_the_next_checkpoint() -> None:
    status = look(
        agent(0, running=1, checkpoint=SAVED), running(storage_trouble=TROUBLE), seconds=30
    )
    assert status.storage_trouble is None


def test_stays_while_the_next_generation_has_saved_nothing() -> None:
    status = look(agent(0, running=1), running(storage_trouble=TROUBLE), seconds=30)
    assert status.storage_trouble == TROUBLE


def test_what_another_generation_said_is_not_believed() -> None:
    assert look(agent(0, running=7, saving_fails=FULL)).storage_trouble is None


def test_is_over_when_the_job_is_complete() -> None:
    world = seen(left(0, Outcome.DONE), left(1, Outcome.DONE))
    status = rendezvous(job(running(storage_trouble=TROUBLE)), world, T0).status
    assert status.phase is Phase.SUCCEEDED
    assert status.storage_trouble is None


def test_a_generation_that_ends_over_it_costs_no_restart_of_the_program() -> None:
    chief = left(0, Outcome.CRASHED, Reason.STORAGE_FAILED)
    world = seen(chief, left(1, Outcome.STOPPED))
    status = rendezvous(job(running(phase_since=LONG_AGO), max_restarts=0), world, T0).status
    assert status.storage_trouble == StorageTrouble("worker 0: StorageFailed", T0)
    assert status.restarts_by_reason == ((Reason.STORAGE_FAILED, 1),)
    assert status.crashes == 0
    # The same again, without a step won: it is waited for, longer each time.
    again = replace(running(2), restarts=1, failed_at_step=10)
    ended = replace(left(0, Outcome.CRASHED, Reason.STORAGE_FAILED, generation=2))
    world = seen(ended, left(1, Outcome.STOPPED, generation=2))
    status = rendezvous(job(again, max_restarts=0), world, T0).status
    assert status.restart_after == at(1)
