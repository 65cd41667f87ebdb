"""Whatever is killed, at whatever moment: the job ends with the model it would have had."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from protos.taas.v1.job_pb2 import CheckpointPolicy, LostTime, TrainingJobSpec
from taas import Client, Phase
from tests.service.world import BOUND_S, TASK, Service, Story, following, until


def submit(client: Client, name: str) -> None:
    """Submit the job; its seconds of training leave room for three kills in the middle."""
    client.submit(
        TASK,
        name=name,
        workers=2,
        parameters={"steps": "1500"},
        spec=TrainingJobSpec(checkpoints=CheckpointPolicy(every_steps=100)),
    )


@pytest.fixture(scope="module")
def calm(service: Service) -> dict[str, float]:
    """What the test metrics are when nothing happens."""
    client = service.client()
    submit(client, "calm")
    story = Story(list(client.watch("calm")))
    story.check()
    assert client.get("calm").status.restarts == 0
    return story.test


def at_once(story: Story) -> None:
    """Right after the submit was acknowledged."""


def after_a_step(story: Story) -> None:
    """In the middle of training."""
    seen = story.count("progress")
    until(lambda: story.count("progress") > seen, "a step")


def after_a_checkpoint(story: Story) -> None:
    """When there is something new to go back to."""
    seen = story.count("checkpoint")
    until(lambda: story.count("checkpoint") > seen, "a checkpoint")


Fault = Callable[[Service, str], None]


def kill_controller(service: Service, job: str) -> None:
    service.kill()
    service.start()


def kill_agent(index: int) -> Fault:
    def kill(service: Service, job: str) -> None:
        agent = until(lambda: service.agent(job, index), "the agent")
        os.kill(agent.pid, signal.SIGKILL)

    return kill


def kill_trainer(index: int) -> Fault:
    def kill(service: Service, job: str) -> None:
        trainer = until(lambda: service.trainer(job, index), "the trainer")
        os.kill(trainer.pid, signal.SIGKILL)

    return kill


def freeze_trainer(index: int) -> Fault:
    def freeze(service: Service, job: str) -> None:
        trainer = until(lambda: service.trainer(job, index), "the trainer")
        os.kill(trainer.pid, signal.SIGSTOP)

    return freeze


def kill_all(service: Service, job: str) -> None:
    service.kill()
    for process in list(service.processes()):
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    service.start()


def check_books(status: Any, story: Story) -> None:
    """Every second from the start to the end is in the books once, and so is every restart."""
    books = status.accounting
    booked = books.useful_seconds + books.other_seconds + lost_seconds(books.lost)
    wall = status.completion_time.ToDatetime() - status.start_time.ToDatetime()
    assert booked == pytest.approx(wall.total_seconds(), abs=1e-3)
    assert status.goodput == pytest.approx(books.useful_seconds / booked)
    assert sum(lost_seconds(c.lost) for c in books.restarts) == pytest.approx(
        lost_seconds(books.lost)
    )
    assert Counter(c.reason for c in books.restarts) == dict(status.restarts_by_reason)
    told = [e.restart for e in story.events if e.HasField("restart")]
    assert told == [cost for cost in books.restarts if cost.over]
    began = {
        e.record.generation: e.record.restored.step
        for e in story.events
        if e.record.HasField("restored")
    }
    for cost in told[-1:]:
        again = books.furthest_step - began.get(cost.generation + 1, 0)
        assert cost.steps_recomputed == again


def lost_seconds(lost: LostTime) -> float:
    return sum(getattr(lost, field.name) for field in lost.DESCRIPTOR.fields)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param("controller", kill_controller, id="controller"),
        pytest.param("agent-0", kill_agent(0), id="chief's agent"),
        pytest.param("agent-1", kill_agent(1), id="other agent"),
        pytest.param("trainer-0", kill_trainer(0), id="chief's trainer"),
        pytest.param("trainer-1", kill_trainer(1), id="other trainer"),
        pytest.param("frozen-1", freeze_trainer(1), id="other trainer frozen"),
        pytest.param("all", kill_all, id="everything"),
    ],
)
def test_kills_change_nothing_about_the_result(
    service: Service, calm: dict[str, float], name: str, fault: Fault
) -> None:
    """One life with a kill at each of the moments."""
    client, story = service.client(), Story()
    submit(client, name)
    watching = following(client, name, story)
    for moment in (at_once, after_a_step, after_a_checkpoint):
        moment(story)
        fault(service, name)
    watching.join(BOUND_S)
    assert not watching.is_alive()
    job = client.get(name)
    assert job.status.phase == Phase.Value("PHASE_SUCCEEDED"), job.status
    story.check()
    assert story.test == calm
    check_books(job.status, story)
    until(lambda: not list(service.processes(name)), "the workers to leave")


def test_a_controller_that_stood_still_takes_nobody_for_silent(service: Service) -> None:
    client, story = service.client(), Story()
    client.submit(TASK, name="still", workers=2, parameters={"steps": "1000000"})
    watching = following(client, "still", story)
    after_a_step(story)
    assert service.controller is not None
    service.controller.send_signal(signal.SIGSTOP)
    try:
        # Longer than the silence that makes a worker lost.
        time.sleep(8)
    finally:
        service.controller.send_signal(signal.SIGCONT)
    after_a_step(story)
    client.cancel("still")
    watching.join(BOUND_S)
    assert not watching.is_alive()
    story.check()
    phases = [e.state.to for e in story.events if e.HasField("state")]
    assert Phase.Value("PHASE_RESTARTING") not in phases
    status = client.get("still").status
    assert (status.restarts, status.generation) == (0, 1)
    assert "this process was stopped" in (service.home / "controller.log").read_text()
