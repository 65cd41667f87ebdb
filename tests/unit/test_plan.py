"""Tables over plan: which pods there should be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.model import (
    Job,
    Phase,
    PodPhase,
    PodSeen,
    Reason,
    RefusedSeen,
    Status,
    Worker,
    WorkerState,
)
from controller.plan import Plan, plan
from tests.builders import T0, at, idle, job, pod, running

FAILED = pod(1, phase=PodPhase.FAILED)
SILENT = Worker(1, WorkerState.LOST, Reason.WORKER_LOST, "job-1")
REPLACED = Worker(1, WorkerState.LOST, Reason.WORKER_LOST, "")
DONE = Worker(1, WorkerState.DONE, "", "job-1")
FINAL = idle(Phase.SUCCEEDED, finished=T0)
BOTH = (pod(0), pod(1))


@pytest.mark.parametrize(
    ("job_", "pods", "expected"),
    [
        pytest.param(job(idle()), (), {"create": (0, 1)}, id="a new job"),
        pytest.param(job(idle()), (pod(1),), {"create": (0,)}, id="one is missing"),
        pytest.param(job(idle()), BOTH, {}, id="all there"),
        pytest.param(job(running()), (pod(0),), {"create": (1,)}, id="one lost while others run"),
        pytest.param(job(idle(), suspend=True), (), {}, id="suspended"),
        pytest.param(job(idle(), suspend=True), BOTH, {"delete": ("job-0", "job-1")}, id="suspend"),
        pytest.param(job(running(), suspend=True), BOTH, {}, id="still saving before suspension"),
        pytest.param(job(running(), suspend=True), (pod(0),), {}, id="suspended, one lost"),
        pytest.param(job(running(), cancel=True), (pod(0),), {}, id="cancelled, one lost"),
        pytest.param(job(running()), (pod(0), FAILED), {"kill": ("job-1",)}, id="failed"),
        pytest.param(
            job(running()),
            (pod(0), pod(1, phase=PodPhase.SUCCEEDED)),
            {"kill": ("job-1",)},
            id="left of itself",
        ),
        pytest.param(
            job(running(), cancel=True), (pod(0), FAILED), {"kill": ("job-1",)}, id="cancel, failed"
        ),
        pytest.param(
            job(running(workers=(SILENT,))), BOTH, {"kill": ("job-1",)}, id="silent: must be gone"
        ),
        pytest.param(
            job(running(workers=(SILENT,)), suspend=True),
            BOTH,
            {"kill": ("job-1",)},
            id="silent while saving",
        ),
        pytest.param(
            job(running(workers=(SILENT,))), (pod(0), pod(1, deleting=True)), {}, id="is going"
        ),
        pytest.param(job(running(workers=(REPLACED,))), BOTH, {}, id="the replacement stays"),
        pytest.param(job(running(workers=(DONE,))), (pod(0),), {}, id="done, not made again"),
        pytest.param(
            job(running(workers=(DONE,))),
            (pod(0), pod(1, phase=PodPhase.SUCCEEDED)),
            {},
            id="done and left",
        ),
        pytest.param(job(idle(), workers=1), BOTH, {"delete": ("job-1",)}, id="surplus"),
        pytest.param(job(running(), workers=1), BOTH, {}, id="surplus, still a member"),
        pytest.param(
            job(running(members=(0,)), workers=1),
            BOTH,
            {"delete": ("job-1",)},
            id="surplus, no member",
        ),
        pytest.param(job(FINAL), BOTH, {"delete": ("job-0", "job-1")}, id="final"),
        pytest.param(job(FINAL), (), {}, id="final, all gone"),
        pytest.param(
            job(running(), deleting=T0), BOTH, {"delete": ("job-0", "job-1")}, id="deleted"
        ),
        pytest.param(job(running(), deleting=T0), (pod(0, deleting=True),), {}, id="being deleted"),
        pytest.param(job(running(), deleting=T0), (), {"forget": True}, id="deleted, all gone"),
        pytest.param(job(FINAL, deleting=T0), (), {"forget": True}, id="final and deleted"),
    ],
)
def test_pods(job_: Job, pods: tuple[PodSeen, ...], expected: dict[str, Any]) -> None:
    if "kill" in expected:
        expected = {"delete": expected["kill"], **expected}
    assert plan(job_, pods, T0) == Plan(job_.status, **expected)


def test_pods_come_in_index_order_whatever_order_they_are_seen_in() -> None:
    pods = (pod(2), pod(0), pod(1))
    assert plan(job(FINAL), pods, T0).delete == ("job-0", "job-1", "job-2")


def test_nothing_is_created_while_the_old_pod_is_there() -> None:
    pods = (pod(0), replace(FAILED, deleting=True))
    assert plan(job(running()), pods, T0) == Plan(running())


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param(2.9, Plan(idle(), wake_at=at(3)), id="too young"),
        pytest.param(3, Plan(idle(), delete=("job-1",), kill=("job-1",)), id="old enough"),
    ],
)
def test_a_pod_that_fails_at_once_is_not_replaced_in_a_busy_loop(
    seconds: float, expected: Plan
) -> None:
    young = replace(FAILED, created=T0)
    assert plan(job(idle()), (pod(0), young), at(seconds)) == expected


@pytest.mark.parametrize(
    ("pods", "seconds", "expected"),
    [
        pytest.param((), 59, {"wake_at": at(60)}, id="kept for a while"),
        pytest.param((), 60, {"forget": True}, id="expired"),
        pytest.param((pod(0),), 60, {"delete": ("job-0",)}, id="expired, a pod is left"),
    ],
)
def test_time_to_live(pods: tuple[PodSeen, ...], seconds: float, expected: dict[str, Any]) -> None:
    finished = job(FINAL, ttl_after_finished_s=60)
    assert plan(finished, pods, at(seconds)) == Plan(FINAL, **expected)


@pytest.mark.parametrize("status", [idle(), running(), idle(Phase.SUSPENDED)])
def test_a_job_that_is_not_final_does_not_expire(status: Status) -> None:
    assert not plan(job(status, ttl_after_finished_s=0), (), at(1e6)).forget


@pytest.mark.parametrize(
    ("times", "seconds", "asked"),
    [
        pytest.param(1, 0.24, False, id="too soon"),
        pytest.param(1, 0.25, True, id="soon"),
        pytest.param(3, 0.9, False, id="twice as long each time"),
        pytest.param(3, 1, True, id="after the third"),
        pytest.param(1000, 29, False, id="never longer"),
        pytest.param(1000, 30, True, id="for ever"),
    ],
)
def test_a_refused_pod_is_asked_for_again_later(times: int, seconds: float, asked: bool) -> None:
    refused = (RefusedSeen(1, "exceeded quota", times, T0),)
    planned = plan(job(idle()), (), at(seconds), refused=refused)
    assert planned.create == ((0, 1) if asked else (0,))
    assert asked or planned.wake_at is not None


def test_a_refusal_of_a_worker_that_is_not_wanted_wakes_nobody() -> None:
    refused = (RefusedSeen(5, "exceeded quota", 3, T0),)
    assert plan(job(idle()), (), T0, refused=refused) == plan(job(idle()), (), T0)
