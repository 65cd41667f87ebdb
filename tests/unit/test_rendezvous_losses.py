"""Which member counts as lost, from when on, and when its generation has ended."""

from __future__ import annotations

import pytest

from controller.model import Outcome, Phase, PodPhase, Reason, Seen, Worker, WorkerState
from controller.rendezvous import rendezvous
from tests.builders import T0, agent, at, job, left, pod, running, seen, told


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        pytest.param(
            left(1, Outcome.CRASHED, Reason.TRAINER_CRASHED), Reason.TRAINER_CRASHED, id="crash"
        ),
        pytest.param(
            left(1, Outcome.CRASHED, Reason.OUT_OF_MEMORY), Reason.OUT_OF_MEMORY, id="memory"
        ),
        pytest.param(
            left(1, Outcome.CRASHED, Reason.TRAINER_KILLED), Reason.TRAINER_KILLED, id="kill"
        ),
        pytest.param(left(1, Outcome.CRASHED), Reason.TRAINER_CRASHED, id="crash without a word"),
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
    [pytest.param(119.9, False, id="in time"), pytest.param(120, True, id="too late")],
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
