"""When a generation starts, with whom, and what its members are told: one row is one rule."""

from __future__ import annotations

from typing import Any

import pytest

from controller.model import Failure, Phase, PodPhase, Reason, Seen, StartOrder, Status, StopOrder
from controller.rendezvous import rendezvous
from tests.builders import T0, agent, at, idle, job, pod, running, seen, told


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


class TestElastic:
    """A group goes on without the lost, and grows when they are back."""

    @pytest.mark.parametrize(
        ("status", "spec", "seconds", "members"),
        [
            pytest.param(idle(Phase.RESTARTING), {"min_workers": 1}, 4.9, (), id="too early"),
            pytest.param(idle(Phase.RESTARTING), {"min_workers": 1}, 5, (1,), id="in time"),
            pytest.param(
                idle(Phase.RESTARTING), {"min_workers": 1, "elastic_wait_s": 9}, 8, (), id="asked"
            ),
            pytest.param(idle(Phase.RESTARTING), {"min_workers": 2}, 30, (), id="too few"),
            pytest.param(idle(Phase.PENDING), {"min_workers": 1}, 30, (), id="never there"),
            pytest.param(idle(Phase.PENDING), {"min_workers": 1}, 600, (1,), id="at the deadline"),
            pytest.param(
                idle(Phase.RESTARTING, restart_after=at(10)),
                {"min_workers": 1},
                14.9,
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
