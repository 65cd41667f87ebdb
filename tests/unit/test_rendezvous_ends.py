"""How a job ends, by its chief or by a deadline, and what is written while it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.ledger import Ledger, Part
from controller.model import (
    Job,
    Outcome,
    Phase,
    PodPhase,
    Progress,
    Reason,
    Seen,
    Stage,
    Worker,
    WorkerState,
)
from controller.rendezvous import rendezvous
from tests.builders import LONG_AGO, T0, agent, at, idle, job, left, pod, running, seen, told


class TestEnd:
    """A job succeeds with its chief."""

    @pytest.mark.parametrize(
        "others",
        [
            pytest.param((left(1, Outcome.DONE),), id="all done"),
            pytest.param((left(1, Outcome.CRASHED, Reason.TRAINER_CRASHED),), id="another crashed"),
            pytest.param((), id="another is gone"),
        ],
    )
    def test_the_chief_is_done(self, others: tuple[object, ...]) -> None:
        world = seen(left(0, Outcome.DONE), *others)  # type: ignore[arg-type]
        status = rendezvous(job(running()), world, T0).status
        assert status.phase is Phase.SUCCEEDED
        assert status.finished == T0
        assert status.last_failure is None
        assert status.restarts == 0

    def test_starts_nobody_after_the_chief_is_done(self) -> None:
        status = running(phase_since=T0)
        decision = rendezvous(job(status), seen(left(0, Outcome.DONE), agent(1)), T0)
        assert decision.orders == ()

    def test_a_wish_that_comes_after_the_chief_is_done_changes_nothing(self) -> None:
        # Also not when the others hang: they are stopped, now and when looked at again.
        status = running(phase_since=at(-600))
        world = seen(left(0, Outcome.DONE), agent(1, running=1, step_since=at(-600)))
        suspended = job(status, suspend=True)
        decision = rendezvous(suspended, world, T0)
        assert decision.status.phase is Phase.RUNNING
        assert told(decision) == ["stop 1"]
        assert rendezvous(replace(suspended, status=decision.status), world, T0) == decision

    def test_waits_for_the_others(self) -> None:
        decision = rendezvous(job(running()), seen(left(0, Outcome.DONE), agent(1, running=1)), T0)
        assert decision.status.phase is Phase.RUNNING
        assert decision.orders == ()

    def test_stops_the_rest_when_one_fails_after_the_chief(self) -> None:
        world = seen(left(0, Outcome.DONE), left(1, Outcome.PEER_LOST), agent(2, running=1))
        decision = rendezvous(job(running(members=(0, 1, 2)), workers=3), world, T0)
        assert told(decision) == ["stop 2"]

    def test_remembers_a_chief_whose_pod_is_gone(self) -> None:
        done = (Worker(0, WorkerState.DONE, "", "job-0"), Worker(1, WorkerState.RUNNING))
        world = seen(left(1, Outcome.DONE))
        assert rendezvous(job(running(workers=done)), world, T0).status.phase is Phase.SUCCEEDED

    def test_others_done_is_not_enough(self) -> None:
        world = seen(left(0, Outcome.CRASHED, Reason.TRAINER_KILLED), left(1, Outcome.DONE))
        assert not rendezvous(job(running()), world, T0).status.phase.final

    def test_takes_over_the_last_progress(self) -> None:
        done = left(0, Outcome.DONE, progress=Progress(step=100, loss=0.5))
        status = running(progress=Progress(step=90), progress_at=T0)
        status = rendezvous(job(status), seen(done, left(1, Outcome.DONE)), T0).status
        assert status.progress == Progress(step=100, loss=0.5)
        assert status.message == "completed 100 steps"


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
            progress=Progress(step=10),
            progress_at=T0,
            message="training with 2 workers",
            ledger=Ledger(Part.USEFUL, T0),
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
