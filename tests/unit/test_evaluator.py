"""The evaluator comes and goes with the training, and the training never with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller import render
from controller.model import (
    EVALUATOR,
    Job,
    MemberSeen,
    Outcome,
    Phase,
    PodPhase,
    PodSeen,
    Reason,
    RefusedSeen,
    Stage,
    StartOrder,
)
from controller.plan import plan
from controller.rendezvous import rendezvous
from tests.builders import T0, agent, at, idle, job, left, pod, running, seen, told

NAME = "job-evaluator"
GROUP = (agent(0, 1), agent(1, 1))
ENDED = running(generation_ended=True, phase=Phase.RESTARTING)
POD = pod(EVALUATOR, name=NAME)


def evaluated(status: Any = None, **spec: Any) -> Job:
    return job(status, **{"evaluator": True, **spec})


@pytest.mark.parametrize(
    ("job_", "pods", "expected"),
    [
        pytest.param(evaluated(idle()), (), {"create": (0, 1)}, id="not before the training"),
        pytest.param(
            evaluated(running()), (pod(0), pod(1)), {"create": (EVALUATOR,)}, id="then it comes"
        ),
        pytest.param(evaluated(running()), (pod(0), pod(1), POD), {}, id="it is there"),
        pytest.param(
            evaluated(running()),
            (pod(0), pod(1), replace(POD, phase=PodPhase.FAILED)),
            {"kill": (NAME,)},
            id="it broke",
        ),
        pytest.param(
            evaluated(ENDED), (pod(0), pod(1), POD), {}, id="it stays between generations"
        ),
        pytest.param(
            evaluated(running(), suspend=True),
            (pod(0), pod(1), POD),
            {"delete": (NAME,)},
            id="it leaves before a suspension",
        ),
        pytest.param(
            job(running()), (pod(0), pod(1), POD), {"delete": (NAME,)}, id="it is not wanted"
        ),
    ],
)
def test_its_pod(job_: Job, pods: tuple[PodSeen, ...], expected: dict[str, Any]) -> None:
    found = plan(job_, pods, at(10))
    asked = {name: getattr(found, name) for name in ("delete", "kill", "create")}
    asked["delete"] = tuple(n for n in asked["delete"] if n not in asked["kill"])
    assert {name: value for name, value in asked.items() if value} == expected


@pytest.mark.parametrize(
    ("job_", "beside", "orders"),
    [
        pytest.param(evaluated(running()), agent(EVALUATOR), ["start 9999"], id="start"),
        pytest.param(evaluated(running()), agent(EVALUATOR, 1), [], id="it runs"),
        pytest.param(evaluated(running(2)), agent(EVALUATOR, 1), ["stop 9999"], id="another one"),
        pytest.param(
            evaluated(running()), left(EVALUATOR, Outcome.CRASHED, "x"), [], id="once a generation"
        ),
        pytest.param(
            evaluated(running(2)), left(EVALUATOR, Outcome.CRASHED, "x"), ["start 9999"], id="again"
        ),
        pytest.param(job(running()), agent(EVALUATOR), ["release 9999"], id="not wanted"),
    ],
)
def test_its_orders(job_: Job, beside: MemberSeen, orders: list[str]) -> None:
    group = tuple(agent(i, job_.status.generation) for i in (0, 1))
    decision = rendezvous(job_, seen(*group, beside), T0)
    assert [text for text in told(decision) if "9999" in text] == orders


def test_it_is_not_started_before_the_group_trains() -> None:
    group = (agent(i, 1, stage=Stage.STARTING, step=0) for i in (0, 1))
    starting = evaluated(running(phase=Phase.STARTING))
    decision = rendezvous(starting, seen(*group, agent(EVALUATOR)), T0)
    assert told(decision) == []


def test_it_is_started_without_a_place_in_the_group() -> None:
    decision = rendezvous(evaluated(running()), seen(*GROUP, agent(EVALUATOR)), T0)
    assert StartOrder(EVALUATOR, 1, (), -1) in decision.orders


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param(left(EVALUATOR, Outcome.CRASHED, Reason.TRAINER_CRASHED), id="it crashes"),
        pytest.param(left(EVALUATOR, Outcome.INVALID, "x"), id="it cannot work"),
        pytest.param(agent(EVALUATOR, 1, connected=False, heard=at(-1000)), id="it is silent"),
    ],
)
def test_whatever_becomes_of_it_the_training_goes_on(beside: MemberSeen) -> None:
    decision = rendezvous(evaluated(running()), seen(*GROUP, beside), T0)
    assert decision.status.phase is Phase.RUNNING
    assert decision.status.last_failure is None
    assert [w.index for w in decision.status.workers] == [0, 1]


def test_the_next_generation_does_not_wait_for_it() -> None:
    beside = agent(EVALUATOR, 1)
    ended = replace(ENDED, restart_after=None)
    decision = rendezvous(evaluated(ended), seen(agent(0), agent(1), beside), T0)
    assert decision.status.generation == 2
    assert decision.status.members == (0, 1)


def test_why_it_does_not_work_is_told() -> None:
    beside = left(EVALUATOR, Outcome.CRASHED, "Broken")
    decision = rendezvous(evaluated(running()), seen(*GROUP, beside), T0)
    assert "the evaluator does not work: worker 9999: Broken" in decision.status.message
    world = replace(seen(*GROUP), refused=(RefusedSeen(EVALUATOR, "no room", 1, T0),))
    decision = rendezvous(evaluated(running()), world, T0)
    assert "the evaluator does not work: no room" in decision.status.message


def test_its_pod_is_named_and_known() -> None:
    settings = render.PodSettings("unix:x", "/storage")
    manifest = render.render(evaluated(running()), EVALUATOR, settings)
    assert manifest["metadata"]["name"] == NAME
    assert manifest["metadata"]["labels"][render.LABEL_WORKER] == str(EVALUATOR)
    assert render.assignment(evaluated(running()), 1).evaluator
