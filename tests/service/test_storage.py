"""The storage of a job is full: said while it lasts, and nothing that was committed is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import taas
from protos.taas.v1.job_pb2 import PHASE_RUNNING, CheckpointPolicy, TrainingJobSpec
from tests.service.small_disk import disk, fill, small_disk
from tests.service.world import BOUND_S, TASK, Service, Story, following, until


@pytest.fixture
def small() -> Iterator[Service]:
    """A running service whose storage is a disk of 16 MB."""
    with small_disk(16) as service:
        yield service


def storage_failing(job: Any) -> Any:
    (condition,) = [c for c in job.status.conditions if c.type == "StorageFailing"]
    return condition


def said(story: Story, text: str) -> bool:
    """Say whether a watcher was told so of the job as it runs."""
    return any(text in e.state.message for e in story.events if e.state.to == PHASE_RUNNING)


def submit(client: taas.Client, name: str) -> None:
    spec = TrainingJobSpec(checkpoints=CheckpointPolicy(every_steps=100), max_restarts=0)
    client.submit(TASK, name=name, workers=2, parameters={"steps": "2000"}, spec=spec)


def test_a_full_disk_is_said_and_waited_for(small: Service) -> None:
    client = small.client()
    submit(client, "calm")
    calm = Story(list(client.watch("calm")))
    client.delete("calm")
    until(lambda: not list(client.list()), "the first job to go")

    submit(client, "job")
    until(lambda: client.checkpoints("job"), "a checkpoint")
    told = Story()
    following(client, "job", told)
    hog = fill(disk(small))
    job = until(
        lambda: (j := client.get("job")) and storage_failing(j).status == "True" and j,
        "the condition",
    )
    assert "No space left on device" in storage_failing(job).message
    assert job.status.restarts == 0, "training does not go on"
    until(lambda: said(told, "No space left on device"), "a watcher to be told while it lasts")
    committed = client.checkpoints("job")
    # A generation that begins now cannot promise anything, and is not the program's fault.
    trainer = until(lambda: small.trainer("job", 1), "the trainer")
    os.kill(trainer.pid, signal.SIGKILL)
    until(lambda: client.get("job").status.restarts_by_reason["StorageFailed"], "the next to fail")
    assert [c.id for c in client.checkpoints("job")] == [c.id for c in committed]

    hog.unlink()
    job = client.wait("job", BOUND_S)
    assert job.status.phase == taas.Phase.Value("PHASE_SUCCEEDED"), job.status
    assert job.status.crashes == 0
    assert storage_failing(job).status == "False"
    story = Story(list(client.watch("job")))
    story.check()
    assert story.test == calm.test
