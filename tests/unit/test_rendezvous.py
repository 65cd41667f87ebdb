"""Tables over rendezvous: one row is one rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.model import (
    Checkpoint,
    Failure,
    Job,
    Outcome,
    Phase,
    PodPhase,
    Progress,
    Reason,
    ReleaseOrder,
    Seen,
    Stage,
    StartOrder,
    Status,
    StopOrder,
    Worker,
    WorkerState,
)
from controller.rendezvous import Decision, rendezvous
from tests.builders import LONG_AGO, T0, agent, at, idle, job, left, pod, running, seen

CRASHED, PEER_LOST, DONE, SAVED = (
    Outcome.CRASHED,
    Outcome.PEER_LOST,
    Outcome.DONE,
    Outcome.SAVED,
)


def told(decision: Decision) -> list[str]:
    """Return the orders in short."""
    texts = []
    for order in decision.orders:
        match order:
            case StartOrder():
                texts.append(f"start {order.index}")
            case StopOrder():
                texts.append(f"{'save' if order.save else 'stop'} {order.index}")
            case ReleaseOrder():
                texts.append(f"release {order.index}")
    return texts


@pytest.mark.parametrize(
    ("world", "starts"),
    [
        pytest.param(seen(agent(0), agent(1)), True, id="all there"),
        pytest.param(seen(agent(0)), False, id="one missing"),
        pytest.param(seen(agent(0), agent(1, connected=False)), False, id="not connected"),
        pytest.param(seen(agent(0), agent(1, heard=at(-6))), False, id="silent"),
        pytest.param(seen(agent(0), agent(1, heard=at(-5.9))), True, id="silent, not too long"),
        pytest.param(seen(agent(0), agent(1, address="")), False, id="no address"),
        pytest.param(seen(agent(0), agent(1, pod_uid="former")), False, id="agent of a former pod"),
        pytest.param(
            seen(agent(0), agent(1), pods=(pod(0), pod(1, deleting=True))), False, id="pod leaves"
        ),
        pytest.param(
            seen(agent(0), agent(1), pods=(pod(0), pod(1, phase=PodPhase.FAILED))),
            False,
            id="pod failed",
        ),
        pytest.param(
            seen(agent(0), agent(1), agent(2, running=7)), False, id="a stranger still trains"
        ),
        pytest.param(
            seen(agent(0), agent(1), agent(2, running=7), pods=(pod(0), pod(1))),
            True,
            id="the stranger's pod is gone",
        ),
    ],
)
def test_a_generation_starts_when_all_are_usable(world: Seen, starts: bool) -> None:
    decision = rendezvous(job(idle()), world, T0)
    assert (decision.status.generation == 1) is starts
    assert any(isinstance(o, StartOrder) for o in decision.orders) is starts


@pytest.mark.parametrize(
    ("status", "spec"),
    [
        pytest.param(idle(), {"suspend": True}, id="suspended"),
        pytest.param(idle(), {"cancel": True}, id="cancelled"),
        pytest.param(idle(Phase.RESTARTING, restart_after=at(1)), {}, id="backing off"),
        pytest.param(idle(Phase.FAILED, finished=T0), {}, id="failed"),
        pytest.param(idle(Phase.SUCCEEDED, finished=T0), {}, id="succeeded"),
    ],
)
def test_no_generation_starts_for_a_job_that_is_held(status: Status, spec: dict[str, Any]) -> None:
    decision = rendezvous(job(status, **spec), seen(agent(0), agent(1)), T0)
    assert decision.status.generation == 0
    assert not any(isinstance(o, StartOrder) for o in decision.orders)


def test_the_back_off_ends_on_its_second() -> None:
    status = idle(Phase.RESTARTING, restart_after=at(1))
    world = seen(agent(0), agent(1))
    assert rendezvous(job(status), world, T0).wake_at == at(1)
    assert rendezvous(job(status), world, at(1)).status.generation == 1


def test_what_people_read_stays_the_same_while_nothing_changes() -> None:
    crash = Failure(Reason.TRAINER_CRASHED, "it broke", generation=1)
    status = idle(
        Phase.RESTARTING, generation=1, crashes=3, last_failure=crash, restart_after=at(4)
    )
    world = seen(agent(0), agent(1))
    first, later = (rendezvous(job(status), world, at(s)).status for s in (0, 2))
    assert first == later
    assert first.message == "restarting in 4 s after: it broke"


def test_a_deleted_job_starts_nothing() -> None:
    decision = rendezvous(job(idle(), deleting=T0), seen(agent(0), agent(1)), T0)
    assert told(decision) == ["release 0", "release 1"]


def test_orders_carry_the_group_in_index_order() -> None:
    decision = rendezvous(job(idle(generation=4)), seen(agent(0), agent(1)), T0)
    cluster = ("10.0.0.0:1", "10.0.0.1:1")
    assert decision.orders == (StartOrder(0, 5, cluster, 0), StartOrder(1, 5, cluster, 1))
    assert decision.status.members == (0, 1)
    assert decision.status.started == T0


def test_a_start_that_was_lost_is_repeated_with_the_addresses_of_the_beginning() -> None:
    # Worker 0 has started and holds another port for next time.
    world = seen(agent(0, running=1, address="10.0.0.0:2"), agent(1))
    decision = rendezvous(job(running(phase=Phase.STARTING)), world, T0)
    assert decision.orders == (StartOrder(1, 1, ("10.0.0.0:1", "10.0.0.1:1"), 1),)


def test_a_trainer_of_an_older_generation_is_stopped() -> None:
    world = seen(agent(0, running=2), agent(1, running=1))
    decision = rendezvous(job(running(2)), world, T0)
    assert decision.orders == (StopOrder(1, 1, save=False, grace_s=30),)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        pytest.param(left(1, CRASHED, Reason.TRAINER_CRASHED), Reason.TRAINER_CRASHED, id="crash"),
        pytest.param(left(1, CRASHED, Reason.OUT_OF_MEMORY), Reason.OUT_OF_MEMORY, id="memory"),
        pytest.param(left(1, CRASHED, Reason.TRAINER_KILLED), Reason.TRAINER_KILLED, id="kill"),
        pytest.param(left(1, CRASHED), Reason.TRAINER_CRASHED, id="crash without a word"),
        pytest.param(agent(1, running=1, heard=at(-6)), Reason.WORKER_LOST, id="silent"),
        pytest.param(
            agent(1, running=1, heard=at(-6), connected=False), Reason.WORKER_LOST, id="hung up"
        ),
    ],
)
def test_a_bad_end_stops_the_others_at_once(member: object, reason: str) -> None:
    world = seen(agent(0, running=1), member)  # type: ignore[arg-type]
    decision = rendezvous(job(running()), world, T0)
    assert "stop 0" in told(decision)
    assert decision.status.phase is Phase.RESTARTING
    assert decision.status.last_failure is not None
    assert decision.status.last_failure.reason == reason
    assert decision.status.last_failure.worker == 1
    assert decision.status.restarts == 0, "accounted before the generation has ended"


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param((pod(0),), id="gone"),
        pytest.param((pod(0), pod(1, phase=PodPhase.FAILED)), id="failed"),
        pytest.param((pod(0), pod(1, phase=PodPhase.SUCCEEDED)), id="ended"),
    ],
)
def test_a_pod_that_is_gone_or_failed_is_lost(pods: tuple[object, ...]) -> None:
    world = seen(agent(0, running=1), agent(1, running=1), pods=pods)  # type: ignore[arg-type]
    status = rendezvous(job(running()), world, T0).status
    assert status.workers[1].state is WorkerState.LOST
    assert status.last_failure is not None
    assert status.last_failure.reason == Reason.POD_LOST


@pytest.mark.parametrize(
    ("pods", "ended"),
    [
        pytest.param((pod(0), pod(1)), False, id="silent, its pod is there"),
        pytest.param((pod(0), pod(1, deleting=True)), False, id="its pod is going"),
        pytest.param((pod(0),), True, id="its pod is gone"),
    ],
)
def test_a_silent_member_has_ended_only_with_its_pod(pods: tuple[object, ...], ended: bool) -> None:
    lost = Worker(1, WorkerState.LOST, Reason.WORKER_LOST, "job-1")
    status = running(phase=Phase.RESTARTING, workers=(Worker(0), lost))
    world = seen(left(0, Outcome.STOPPED), agent(1, heard=at(-60)), pods=pods)  # type: ignore[arg-type]
    assert rendezvous(job(status), world, T0).status.generation_ended is ended


def test_the_replacement_of_a_lost_member_is_not_taken_for_it() -> None:
    lost = Worker(1, WorkerState.LOST, Reason.POD_LOST, "")
    status = running(phase=Phase.RESTARTING, workers=(Worker(0), lost))
    # Worker 0 still runs; the new pod of worker 1 waits and is told nothing.
    world = seen(agent(0, running=1), agent(1))
    decision = rendezvous(job(status), world, T0)
    assert not decision.status.generation_ended
    assert told(decision) == ["stop 0"]
    # Once worker 0 has ended, both begin anew.
    world = seen(left(0, Outcome.STOPPED), agent(1))
    decision = rendezvous(job(status), world, T0)
    assert decision.status.generation == 2
    assert told(decision) == ["start 0", "start 1"]


@pytest.mark.parametrize(
    ("seconds", "lost"),
    [pytest.param(19.9, False, id="in time"), pytest.param(20, True, id="too late")],
)
def test_a_new_controller_waits_for_members_to_call(seconds: float, lost: bool) -> None:
    world = Seen((pod(0), pod(1)), (), since=T0)
    status = rendezvous(job(running()), world, at(seconds)).status
    assert (status.workers[0].state is WorkerState.LOST) is lost
    assert lost or status == running(message="training with 2 workers")


def test_silence_counts_only_from_when_this_controller_began() -> None:
    members = (agent(0, running=1, heard=at(-60)), agent(1, running=1, heard=at(-60)))
    world = Seen((pod(0), pod(1)), members, since=T0)
    assert rendezvous(job(running()), world, at(5.9)).orders == ()
    assert told(rendezvous(job(running()), world, at(6))) == ["stop 0", "stop 1"]


class TestBlame:
    """The root cause is the earliest failure that is not the loss of a peer."""

    def settle(self, world: Seen, seconds: float = 0.0, **changes: Any) -> Status:
        status = running(phase=Phase.RESTARTING, phase_since=T0, **changes)
        return rendezvous(job(status), world, at(seconds)).status

    def test_waits_for_the_culprit(self) -> None:
        world = seen(left(0, PEER_LOST, Reason.PEER_LOST), left(1, Outcome.STOPPED))
        assert not self.settle(world, 1.9).generation_ended

    def test_blames_the_peers_when_no_culprit_turns_up(self) -> None:
        world = seen(left(0, PEER_LOST, Reason.PEER_LOST), left(1, Outcome.STOPPED))
        status = self.settle(world, 2)
        assert status.generation_ended
        assert status.restarts_by_reason == ((Reason.PEER_LOST, 1),)
        assert status.crashes == 1

    def test_the_culprit_ends_the_wait(self) -> None:
        world = seen(left(0, PEER_LOST), left(1, CRASHED, Reason.OUT_OF_MEMORY))
        status = self.settle(world)
        assert status.restarts_by_reason == ((Reason.OUT_OF_MEMORY, 1),)

    def test_the_earliest_failure_counts(self) -> None:
        first = left(1, CRASHED, Reason.TRAINER_KILLED)
        late = left(0, CRASHED, Reason.TRAINER_CRASHED)
        assert late.exited is not None
        assert late.exited.failure is not None
        later = replace(late.exited.failure, time=at(1))
        world = seen(replace(late, exited=replace(late.exited, failure=later)), first)
        assert self.settle(world, 2).restarts_by_reason == ((Reason.TRAINER_KILLED, 1),)

    def test_a_silent_node_is_blamed_for_the_crash_it_causes(self) -> None:
        crash = left(0, CRASHED, Reason.TRAINER_CRASHED)
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
        world = seen(left(0, PEER_LOST), left(1, CRASHED, reason))
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
        world = seen(left(0, PEER_LOST), left(1, CRASHED, Reason.TRAINER_KILLED))
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
        crash = left(1, CRASHED, Reason.TRAINER_CRASHED)
        assert crash.exited is not None
        assert crash.exited.failure is not None
        failure = replace(crash.exited.failure, details="Traceback ...", exit_code=1)
        crash = replace(crash, exited=replace(crash.exited, failure=failure))
        world = seen(left(0, PEER_LOST), crash)
        status = rendezvous(job(running(), max_restarts=0), world, T0).status
        assert status.last_failure is not None
        assert status.last_failure.details == "Traceback ..."
        assert status.last_failure.exit_code == 1

    def test_a_generation_is_accounted_once(self) -> None:
        first = self.ended(Reason.TRAINER_CRASHED)
        world = seen(left(0, PEER_LOST), left(1, CRASHED, Reason.TRAINER_CRASHED))
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


class TestEnd:
    """A job succeeds with its chief."""

    @pytest.mark.parametrize(
        "others",
        [
            pytest.param((left(1, DONE),), id="all done"),
            pytest.param((left(1, CRASHED, Reason.TRAINER_CRASHED),), id="another crashed"),
            pytest.param((), id="another is gone"),
        ],
    )
    def test_the_chief_is_done(self, others: tuple[object, ...]) -> None:
        world = seen(left(0, DONE), *others)  # type: ignore[arg-type]
        status = rendezvous(job(running()), world, T0).status
        assert status.phase is Phase.SUCCEEDED
        assert status.finished == T0
        assert status.last_failure is None
        assert status.restarts == 0

    def test_starts_nobody_after_the_chief_is_done(self) -> None:
        status = running(phase_since=T0)
        decision = rendezvous(job(status), seen(left(0, DONE), agent(1)), T0)
        assert decision.orders == ()

    def test_a_wish_that_comes_after_the_chief_is_done_changes_nothing(self) -> None:
        # Also not when the others hang: they are stopped, now and when looked at again.
        status = running(phase_since=at(-600))
        world = seen(left(0, DONE), agent(1, running=1, step_since=at(-600)))
        suspended = job(status, suspend=True)
        decision = rendezvous(suspended, world, T0)
        assert decision.status.phase is Phase.RUNNING
        assert told(decision) == ["stop 1"]
        assert rendezvous(replace(suspended, status=decision.status), world, T0) == decision

    def test_waits_for_the_others(self) -> None:
        decision = rendezvous(job(running()), seen(left(0, DONE), agent(1, running=1)), T0)
        assert decision.status.phase is Phase.RUNNING
        assert decision.orders == ()

    def test_stops_the_rest_when_one_fails_after_the_chief(self) -> None:
        world = seen(left(0, DONE), left(1, PEER_LOST), agent(2, running=1))
        decision = rendezvous(job(running(members=(0, 1, 2)), workers=3), world, T0)
        assert told(decision) == ["stop 2"]

    def test_remembers_a_chief_whose_pod_is_gone(self) -> None:
        done = (Worker(0, WorkerState.DONE, "", "job-0"), Worker(1, WorkerState.RUNNING))
        world = seen(left(1, DONE))
        assert rendezvous(job(running(workers=done)), world, T0).status.phase is Phase.SUCCEEDED

    def test_others_done_is_not_enough(self) -> None:
        world = seen(left(0, CRASHED, Reason.TRAINER_KILLED), left(1, DONE))
        assert not rendezvous(job(running()), world, T0).status.phase.final

    def test_takes_over_the_last_progress(self) -> None:
        done = left(0, DONE, progress=Progress(step=100, loss=0.5))
        status = running(progress=Progress(step=90), progress_at=T0)
        status = rendezvous(job(status), seen(done, left(1, DONE)), T0).status
        assert status.progress == Progress(step=100, loss=0.5)
        assert status.message == "completed 100 steps"


class TestWishes:
    """Suspend, cancel, scale, delete."""

    two = seen(agent(0, running=1), agent(1, running=1))

    @pytest.mark.parametrize(
        ("spec", "phase"),
        [
            pytest.param({"suspend": True}, Phase.SUSPENDING, id="suspend"),
            pytest.param({"cancel": True}, Phase.RUNNING, id="cancel"),
            pytest.param({"workers": 1}, Phase.RUNNING, id="shrink"),
            pytest.param({"active_deadline_s": 3600}, Phase.RUNNING, id="active deadline"),
        ],
    )
    def test_saves_first(self, spec: dict[str, Any], phase: Phase) -> None:
        decision = rendezvous(job(running(), **spec), self.two, T0)
        assert told(decision) == ["save 0", "save 1"]
        assert decision.status.phase is phase
        assert decision.status.stopping
        assert not decision.status.generation_ended

    @pytest.mark.parametrize(
        ("spec", "phase"),
        [
            pytest.param({"suspend": True}, Phase.SUSPENDING, id="suspend"),
            pytest.param({"cancel": True}, Phase.CANCELLED, id="cancel"),
            pytest.param({"workers": 1}, Phase.STARTING, id="shrink"),
            pytest.param({"active_deadline_s": 3600}, Phase.FAILED, id="active deadline"),
            pytest.param({}, Phase.STARTING, id="nobody asked"),
        ],
    )
    def test_goes_on_when_all_have_saved(self, spec: dict[str, Any], phase: Phase) -> None:
        world = seen(left(0, SAVED), left(1, SAVED))
        status = rendezvous(job(running(stopping=True), **spec), world, T0).status
        assert status.phase is phase
        assert status.restarts == 0
        assert status.crashes == 0

    def test_saved_when_the_grace_ran_out_is_no_failure(self) -> None:
        world = seen(left(0, Outcome.STOPPED), left(1, PEER_LOST))
        status = rendezvous(job(running(stopping=True), cancel=True), world, T0).status
        assert status.phase is Phase.CANCELLED
        assert status.restarts == 0

    def test_a_member_that_has_not_begun_is_told_too(self) -> None:
        # Else a start on its way to it would be obeyed after the others have left.
        world = seen(agent(0, running=1), agent(1))
        decision = rendezvous(job(running(), suspend=True), world, T0)
        assert told(decision) == ["save 0", "save 1"]

    def test_delete_does_not_save(self) -> None:
        decision = rendezvous(job(running(), deleting=T0), self.two, T0)
        assert told(decision) == ["stop 0", "stop 1"]

    def test_growth_waits_for_the_new_worker(self) -> None:
        decision = rendezvous(job(running(), workers=3), self.two, T0)
        assert decision.orders == ()
        world = Seen((*self.two.pods, pod(2)), (*self.two.members, agent(2)), LONG_AGO)
        decision = rendezvous(job(running(), workers=3), world, T0)
        assert told(decision) == ["save 0", "save 1"]

    def test_surplus_workers_are_released_when_they_run_nothing(self) -> None:
        status = running(members=(0,))
        decision = rendezvous(job(status, workers=1), seen(agent(0, running=1), agent(1)), T0)
        assert told(decision) == ["release 1"]

    @pytest.mark.parametrize(
        ("pods", "phase"),
        [
            pytest.param((pod(0),), Phase.SUSPENDING, id="pods left"),
            pytest.param((), Phase.SUSPENDED, id="no pod left"),
        ],
    )
    def test_suspended_without_pods(self, pods: tuple[object, ...], phase: Phase) -> None:
        world = Seen(pods, (), LONG_AGO)  # type: ignore[arg-type]
        status = rendezvous(job(idle(Phase.RESTARTING), suspend=True), world, T0).status
        assert status.phase is phase

    def test_resumed(self) -> None:
        status = rendezvous(job(idle(Phase.SUSPENDED)), Seen((), (), LONG_AGO), at(5)).status
        assert status.phase is Phase.PENDING
        assert status.phase_since == at(5)

    def test_a_member_asked_to_leave_takes_all_with_it(self) -> None:
        world = Seen((pod(0), pod(1, deleting=True)), self.two.members, LONG_AGO)
        assert told(rendezvous(job(running()), world, T0)) == ["save 0", "save 1"]
        world = seen(left(0, SAVED), left(1, SAVED), pods=(pod(0), pod(1, deleting=True)))
        status = rendezvous(job(running(stopping=True)), world, T0).status
        assert status.restarts_by_reason == ((Reason.POD_LOST, 1),)
        assert status.crashes == 0


class TestElastic:
    """A group goes on without the lost, and grows when they are back."""

    @pytest.mark.parametrize(
        ("status", "spec", "seconds", "members"),
        [
            pytest.param(idle(Phase.RESTARTING), {"min_workers": 1}, 29.9, (), id="too early"),
            pytest.param(idle(Phase.RESTARTING), {"min_workers": 1}, 30, (1,), id="in time"),
            pytest.param(idle(Phase.RESTARTING), {"min_workers": 2}, 30, (), id="too few"),
            pytest.param(idle(Phase.PENDING), {"min_workers": 1}, 30, (), id="never there"),
            pytest.param(idle(Phase.PENDING), {"min_workers": 1}, 600, (1,), id="at the deadline"),
            pytest.param(
                idle(Phase.RESTARTING, restart_after=at(10)),
                {"min_workers": 1},
                35,
                (),
                id="a back-off is no waiting",
            ),
        ],
    )
    def test_goes_on_with_fewer(
        self, status: Status, spec: dict[str, Any], seconds: float, members: tuple[int, ...]
    ) -> None:
        world = seen(agent(1, heard=at(seconds)))
        after = rendezvous(job(status, **spec), world, at(seconds)).status
        assert (after.members if not after.generation_ended else ()) == members

    def test_the_lowest_index_is_the_chief(self) -> None:
        status = idle(Phase.RESTARTING, generation=1)
        world = seen(agent(1, heard=at(30)), agent(2, heard=at(30)))
        decision = rendezvous(job(status, workers=3, min_workers=1), world, at(30))
        assert [(o.index, o.position) for o in decision.orders if isinstance(o, StartOrder)] == [
            (1, 0),
            (2, 1),
        ]

    def test_grows_when_all_are_back(self) -> None:
        world = seen(agent(0, running=2), agent(1))
        decision = rendezvous(job(running(2, (0,)), min_workers=1), world, T0)
        assert told(decision) == ["save 0"]


class TestDeadlines:
    """What does not happen in time ends the job, or the generation."""

    def test_start_deadline_names_the_missing(self) -> None:
        held = pod(1, phase=PodPhase.PENDING, reason="ImagePullBackOff", message="no such image")
        world = seen(agent(0, heard=at(600)), pods=(pod(0), held))
        decision = rendezvous(job(idle()), world, at(599.9))
        assert decision.status.phase is Phase.PENDING
        assert decision.wake_at == at(600)
        status = rendezvous(job(idle()), world, at(600)).status
        assert status.phase is Phase.FAILED
        assert status.last_failure is not None
        assert status.last_failure.reason == Reason.START_DEADLINE
        assert "worker 1" in status.message
        assert "ImagePullBackOff: no such image" in status.message
        assert "worker 0" not in status.message

    def test_a_controller_that_was_away_does_not_blame_the_workers(self) -> None:
        world = Seen((), (), since=at(3600))
        assert rendezvous(job(idle()), world, at(3700)).status.phase is Phase.PENDING

    @pytest.mark.parametrize(
        ("seconds", "hung"),
        [pytest.param(59.9, False, id="not yet"), pytest.param(60, True, id="hung")],
    )
    def test_progress_deadline(self, seconds: float, hung: bool) -> None:
        world = seen(*(agent(i, running=1, heard=at(seconds)) for i in (0, 1)))
        decision = rendezvous(job(running(), progress_deadline_s=60), world, at(seconds))
        assert told(decision) == (["stop 0", "stop 1"] if hung else [])
        if hung:
            assert decision.status.last_failure is not None
            assert decision.status.last_failure.reason == Reason.HUNG

    def test_one_member_that_moves_is_enough(self) -> None:
        moving = agent(1, running=1, heard=at(60), step_since=at(30))
        world = seen(agent(0, running=1, heard=at(60)), moving)
        decision = rendezvous(job(running(), progress_deadline_s=60), world, at(60))
        assert told(decision) == []

    def test_trainers_that_have_just_ended_do_not_hang(self) -> None:
        # That none runs is heard a moment before how it ended.
        ended = [agent(i, heard=at(60), step=10, step_since=at(59)) for i in (0, 1)]
        decision = rendezvous(job(running(), progress_deadline_s=60), seen(*ended), at(60))
        assert decision.status.last_failure is None
        assert decision.status.phase is Phase.RUNNING

    def test_active_deadline(self) -> None:
        status = idle(Phase.RESTARTING, started=T0)
        after = rendezvous(job(status, active_deadline_s=10), Seen((), (), LONG_AGO), at(10)).status
        assert after.phase is Phase.FAILED
        assert after.last_failure is not None
        assert after.last_failure.reason == Reason.ACTIVE_DEADLINE


class TestQuiet:
    """A job that runs is not written at every heartbeat."""

    @pytest.mark.parametrize(
        ("seconds", "taken"),
        [pytest.param(2.9, False, id="too soon"), pytest.param(3, True, id="due")],
    )
    def test_progress_is_taken_over_now_and_then(self, seconds: float, taken: bool) -> None:
        progress = Progress(step=20)
        chief = agent(0, running=1, progress=progress, heard=at(seconds))
        status = running(
            progress=Progress(step=10), progress_at=T0, message="training with 2 workers"
        )
        world = seen(chief, agent(1, running=1, heard=at(seconds)))
        after = rendezvous(job(status), world, at(seconds)).status
        assert after.progress.step == (20 if taken else 10)
        assert (after == status) is not taken

    def test_what_a_former_generation_reported_is_not_taken_over(self) -> None:
        chief = agent(0, running=1, progress=Progress(step=20))
        world = seen(chief, agent(1, running=2))
        assert rendezvous(job(running(2)), world, T0).status.progress.step == 0

    def test_running_with_the_first_step(self) -> None:
        begun = running(phase=Phase.STARTING)
        waiting = {"stage": Stage.RESTORING, "step": 0}
        world = seen(agent(0, running=1, **waiting), agent(1, running=1, **waiting))
        assert rendezvous(job(begun), world, T0).status.phase is Phase.STARTING
        world = seen(agent(0, running=1), agent(1, running=1, **waiting))
        assert rendezvous(job(begun), world, T0).status.phase is Phase.RUNNING


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED])
def test_a_final_job_never_changes_and_lets_its_workers_go(phase: Phase) -> None:
    final = idle(phase, finished=T0, generation=1, members=(0, 1))
    cases: list[Job] = [job(final), job(final, suspend=True, cancel=True), job(final, deleting=T0)]
    for case in cases:
        decision = rendezvous(case, seen(agent(0), agent(1, running=1)), at(1e6))
        assert decision.status == final
        assert told(decision) == ["release 0", "stop 1", "release 1"]
