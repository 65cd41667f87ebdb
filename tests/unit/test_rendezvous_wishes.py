"""What users ask for while a generation runs: suspend, cancel, scale, delete."""

from __future__ import annotations

from typing import Any

import pytest

from controller.model import Outcome, Phase, Reason, Seen
from controller.rendezvous import rendezvous
from tests.builders import LONG_AGO, T0, agent, at, idle, job, left, pod, running, seen, told


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
        world = seen(left(0, Outcome.SAVED), left(1, Outcome.SAVED))
        status = rendezvous(job(running(stopping=True), **spec), world, T0).status
        assert status.phase is phase
        assert status.restarts == 0
        assert status.crashes == 0

    def test_saved_when_the_grace_ran_out_is_no_failure(self) -> None:
        world = seen(left(0, Outcome.STOPPED), left(1, Outcome.PEER_LOST))
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
        world = seen(
            left(0, Outcome.SAVED), left(1, Outcome.SAVED), pods=(pod(0), pod(1, deleting=True))
        )
        status = rendezvous(job(running(stopping=True)), world, T0).status
        assert status.restarts_by_reason == ((Reason.POD_LOST, 1),)
        assert status.crashes == 0
