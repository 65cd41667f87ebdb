"""Whatever is killed, at whatever moment: the job ends with the model it would have had."""

import os
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protos.taas.v1.job_pb2 import CheckpointPolicy, TrainingJobSpec
from taas import Client
from tests.service.world import BOUND_S, TASK, Service, Story, until

PARAMETERS = {"steps": "4000"}


def watch(client: Client, name: str, story: Story) -> threading.Thread:
    """Follow a job in the background, over restarts of the controller."""

    def follow() -> None:
        story.events.extend(client.watch(name, reconnect_for_s=BOUND_S))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread


def submit(client: Client, name: str, *, workers: int = 2, **parameters: str) -> Any:
    return client.submit(
        TASK,
        name=name,
        workers=workers,
        parameters=PARAMETERS | parameters,
        spec=TrainingJobSpec(checkpoints=CheckpointPolicy(every_steps=200)),
    )


def undisturbed(service: Service) -> dict[str, float]:
    """Return the test metrics of a run that nothing happens to."""
    client = service.client()
    submit(client, "calm")
    story = Story()
    story.events.extend(client.watch("calm"))
    story.check()
    assert client.get("calm").status.restarts == 0
    return story.test


def kill_controller(service: Service) -> None:
    service.kill()
    service.start()


def kill_agent(index: int) -> Callable[[Service], None]:
    def kill(service: Service) -> None:
        agent = until(lambda: service.agent("stormy", index), "the agent")
        os.kill(agent.pid, signal.SIGKILL)

    return kill


def kill_trainer(index: int) -> Callable[[Service], None]:
    def kill(service: Service) -> None:
        trainer = until(lambda: service.trainer("stormy", index), "the trainer")
        os.kill(trainer.pid, signal.SIGKILL)

    return kill


def kill_all(service: Service) -> None:
    service.kill()
    for process in list(service.processes()):
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    service.start()


def at_once(service: Service, client: Client) -> None:
    """The moment right after the submit was acknowledged."""


def after_a_step(service: Service, client: Client) -> None:
    """In the middle of training."""
    until(lambda: client.get("stormy").status.progress.step > 0, "a step")


def after_a_checkpoint(service: Service, client: Client) -> None:
    """When there is something to go back to."""
    until(lambda: client.checkpoints("stormy"), "a checkpoint")


@pytest.fixture(scope="module")
def calm() -> dict[str, float]:
    """What the test metrics are when nothing happens."""
    service = Service(Path(tempfile.mkdtemp(prefix="taas-")))
    service.start()
    try:
        return undisturbed(service)
    finally:
        service.close()


@pytest.mark.parametrize("moment", [at_once, after_a_step, after_a_checkpoint])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(kill_controller, id="controller"),
        pytest.param(kill_agent(0), id="chief's agent"),
        pytest.param(kill_agent(1), id="other agent"),
        pytest.param(kill_trainer(0), id="chief's trainer"),
        pytest.param(kill_trainer(1), id="other trainer"),
        pytest.param(kill_all, id="everything"),
    ],
)
def test_a_kill_changes_nothing_about_the_result(
    service: Service,
    calm: dict[str, float],
    fault: Callable[[Service], None],
    moment: Callable[[Service, Client], None],
) -> None:
    client = service.client()
    submit(client, "stormy")
    story = Story()
    watching = watch(client, "stormy", story)
    moment(service, client)
    fault(service)
    watching.join(BOUND_S)
    assert not watching.is_alive()
    job = client.get("stormy")
    assert job.status.phase == 7, job.status
    story.check()
    assert story.test == calm
    until(lambda: not list(service.processes()), "the workers to leave")
