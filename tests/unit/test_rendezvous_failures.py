"""Who is to blame for the end of a generation, and what it costs the job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.model import Checkpoint, Outcome, Phase, Progress, Reason, Seen, Status
from controller.rendezvous import rendezvous
from tests.builders import T0, agent, at, job, left, running, seen


class TestBlame:
    """The root cause is the earliest failure that is not the loss of a peer."""

    def settle(self, world: Seen, seconds: float = 0.0, **changes: Any) -> Status:
        status = running(phase=Phase.RESTARTING, phase_since=T0, **changes)
        return rendezvous(job(status), world, at(seconds)).status

    def test_waits_for_the_culprit(self) -> None:
        world = seen(left(0, Outcome.PEER_LOST, Reason.PEER_LOST), left(1, Outcome.STOPPED))
        assert not self.settle(world, 1.9).generation_ended

    def test_blames_the_peers_when_no_culprit_turns_up(self) -> None:
        world = seen(left(0, Outcome.PEER_LOST, Reason.PEER_LOST), left(1, Outcome.STOPPED))
        status = self.settle(world, 2)
        assert status.generation_ended
        assert status.restarts_by_reason == ((Reason.PEER_LOST, 1),)
        assert status.crashes == 1

    def test_the_culprit_ends_the_wait(self) -> None:
        world = seen(left(0, Outcome.PEER_LOST), left(1, Outcome.CRASHED, Reason.OUT_OF_MEMORY))
        status = self.settle(world)
        assert status.restarts_by_reason == ((Reason.OUT_OF_MEMORY, 1),)

    def test_the_earliest_failure_counts(self) -> None:
        first = left(1, Outcome.CRASHED, Reason.TRAINER_KILLED)
        late = left(0, Outcome.CRASHED, Reason.TRAINER_CRASHED)
        assert late.exited is not None
        assert late.exited.failure is not None
        later = replace(late.exited.failure, time=at(1))
        world = seen(replace(late, exited=replace(late.exited, failure=later)), first)
        assert self.settle(world, 2).restarts_by_reason == ((Reason.TRAINER_KILLED, 1),)

    def test_a_silent_node_is_blamed_for_the_crash_it_causes(self) -> None:
        crash = left(0, Outcome.CRASHED, Reason.TRAINER_CRASHED)
        world = seen(crash, agent(1, running=1, heard=at(-6)))
        failure = self.settle(world).last_failure
        assert failure is not None
        assert failure.reason == Reason.WORKER_LOST

    def test_a_trainer_stopped_by_nobody_known_is_not_counted(self) -> None:
        world = seen(left(0, Outcome.STOPPED), left(1, Outcome.STOPPED))
        status = self.settle(world, 2)
        assert status.restarts_by_reason == ((Reason.TRAINER_KILLED, 1),)
        assert status.crashes == 0


class TestBudget:
    """Crashes count, losses do not; the waits grow with crashes, and with losses in vain."""

    def ended(self, reason: str, crashes: int = 0, **spec: Any) -> Status:
        world = seen(left(0, Outcome.PEER_LOST), left(1, Outcome.CRASHED, reason))
        return rendezvous(job(running(crashes=crashes), **spec), world, T0).status

    @pytest.mark.parametrize(
        ("reason", "counted"),
        [
            pytest.param(Reason.TRAINER_CRASHED, True, id="crash"),
            pytest.param(Reason.OUT_OF_MEMORY, True, id="memory"),
            pytest.param(Reason.TRAINER_KILLED, False, id="kill"),
        ],
    )
    def test_what_counts(self, reason: str, counted: bool) -> None:
        status = self.ended(reason)
        assert status.restarts == 1
        assert status.restarts_by_reason == ((reason, 1),)
        assert status.crashes == int(counted)
        assert (status.phase is Phase.RESTARTING) is counted, "a loss is followed by a start"

    @pytest.mark.parametrize(
        ("crashes", "wait"),
        [(0, 1), (1, 2), (2, 4), (7, 128), (8, 256), (9, 300), (1000, 300)],
    )
    def test_back_off(self, crashes: int, wait: int) -> None:
        status = self.ended(Reason.TRAINER_CRASHED, crashes, max_restarts=10_000)
        assert status.restart_after == at(wait)

    @pytest.mark.parametrize(
        ("crashes", "allowed", "fails"),
        [
            pytest.param(0, 0, True, id="none allowed"),
            pytest.param(0, 1, False, id="the first of one"),
            pytest.param(1, 1, True, id="the second of one"),
            pytest.param(5, 6, False, id="the sixth of six"),
            pytest.param(6, 6, True, id="the seventh of six"),
        ],
    )
    def test_one_too_many(self, crashes: int, allowed: int, fails: bool) -> None:
        status = self.ended(Reason.TRAINER_CRASHED, crashes, max_restarts=allowed)
        assert (status.phase is Phase.FAILED) is fails
        if fails:
            assert status.last_failure is not None
            assert status.last_failure.reason == Reason.TOO_MANY_RESTARTS
            assert "TrainerCrashed" in status.message
            assert status.finished == T0

    @pytest.mark.parametrize(
        ("step", "futile", "wait"),
        [
            pytest.param(5, 0, 1, id="the second in vain"),
            pytest.param(4, 2, 4, id="behind where it failed before"),
            pytest.param(5, 1000, 300, id="for ever"),
            pytest.param(6, 7, 0, id="a step was won"),
        ],
    )
    def test_losses_in_vain_are_waited_after(self, step: int, futile: int, wait: int) -> None:
        before = running(
            crashes=3,
            restarts=5,
            progress=Progress(step=step),
            failed_at_step=5,
            futile_restarts=futile,
        )
        world = seen(left(0, Outcome.PEER_LOST), left(1, Outcome.CRASHED, Reason.TRAINER_KILLED))
        status = rendezvous(job(before), world, T0).status
        assert status.crashes == 3
        assert status.failed_at_step == max(step, 5)
        assert status.futile_restarts == (futile + 1 if wait else 0)
        if wait:
            assert status.phase is Phase.RESTARTING
            assert status.restart_after == at(wait)
            assert status.message.startswith(f"restarting in {wait} s after")
        else:
            assert status.phase is Phase.STARTING

    def test_the_first_loss_is_not_waited_after(self) -> None:
        status = self.ended(Reason.TRAINER_KILLED)
        assert (status.phase, status.futile_restarts) == (Phase.STARTING, 0)

    def test_losses_never_use_up_the_budget(self) -> None:
        assert self.ended(Reason.TRAINER_KILLED, 1, max_restarts=1).phase is not Phase.FAILED

    def test_the_traceback_of_the_program_stays(self) -> None:
        crash = left(1, Outcome.CRASHED, Reason.TRAINER_CRASHED)
        assert crash.exited is not None
        assert crash.exited.failure is not None
        failure = replace(crash.exited.failure, details="Traceback ...", exit_code=1)
        crash = replace(crash, exited=replace(crash.exited, failure=failure))
        world = seen(left(0, Outcome.PEER_LOST), crash)
        status = rendezvous(job(running(), max_restarts=0), world, T0).status
        assert status.last_failure is not None
        assert status.last_failure.details == "Traceback ..."
        assert status.last_failure.exit_code == 1

    def test_a_generation_is_accounted_once(self) -> None:
        first = self.ended(Reason.TRAINER_CRASHED)
        world = seen(left(0, Outcome.PEER_LOST), left(1, Outcome.CRASHED, Reason.TRAINER_CRASHED))
        assert rendezvous(job(first), world, T0).status == first


@pytest.mark.parametrize(
    ("status", "step", "fails"),
    [
        pytest.param(running(), 0, True, id="never made a step"),
        pytest.param(running(), 5, False, id="made steps in this generation"),
        pytest.param(running(progress=Progress(step=3)), 0, False, id="made steps before"),
        pytest.param(
            running(last_checkpoint=Checkpoint("step-3", 3, 1, 1, T0)), 0, False, id="has saved"
        ),
    ],
)
def test_an_invalid_program_is_tried_again_only_if_it_ever_worked(
    status: Status, step: int, fails: bool
) -> None:
    invalid = left(0, Outcome.INVALID, Reason.INVALID_PROGRAM)
    assert invalid.exited is not None
    invalid = replace(invalid, exited=replace(invalid.exited, step=step))
    after = rendezvous(job(status), seen(invalid, left(1, Outcome.STOPPED)), T0).status
    assert (after.phase is Phase.FAILED) is fails
    assert after.crashes == 1
    if fails:
        assert after.last_failure is not None
        assert after.last_failure.reason == Reason.INVALID_PROGRAM
