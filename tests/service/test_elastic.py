"""A lost worker that does not come back: the group goes on without it, and grows again."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest

import taas
from protos.taas.v1.job_pb2 import CheckpointPolicy, TrainingJobSpec
from tests.service.world import BOUND_S, TASK, Service, Story, until


def submit(client: taas.Client, name: str, workers: int) -> None:
    spec = TrainingJobSpec(
        checkpoints=CheckpointPolicy(every_steps=200, keep_last=100),
        min_workers=1,
        elastic_wait_seconds=1,
    )
    client.submit(TASK, name=name, workers=workers, parameters={"steps": "8000"}, spec=spec)


def losses(client: taas.Client, name: str) -> dict[int, float]:
    """Return the loss of the checkpoints by step."""
    return {c.step: c.metrics["loss"] for c in client.checkpoints(name)}


def test_goes_on_with_fewer_and_grows_again(service: Service) -> None:
    client = service.client()
    submit(client, "calm", workers=1)
    calm = Story(list(client.watch("calm")))

    submit(client, "job", workers=2)
    until(lambda: client.checkpoints("job"), "a checkpoint")
    lost = until(lambda: service.agent("job", 1), "the agent")
    os.kill(lost.pid, signal.SIGKILL)
    frozen: set[int] = set()

    def trains_alone() -> Any:
        # As on a machine with no room: whoever takes the place of the lost one does not come up.
        replacement = service.agent("job", 1)
        if replacement is not None and replacement.pid not in {lost.pid, *frozen}:
            frozen.add(replacement.pid)
            os.kill(replacement.pid, signal.SIGSTOP)
        status = client.get("job").status
        running = taas.Phase.Value("PHASE_RUNNING")
        return list(status.members) == [0] and status.phase == running

    until(trains_alone, "the group to go on without the lost worker")
    for pid in frozen:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)

    job = client.wait("job", BOUND_S)
    assert job.status.phase == taas.Phase.Value("PHASE_SUCCEEDED"), job.status
    assert list(job.status.members) == [0, 1], "the group did not grow again"
    story = Story(list(client.watch("job")))
    story.check()
    # A replacement that had joined before it was stopped is a loss more; to grow is none.
    *losses_of_workers, growth = job.status.accounting.restarts
    assert growth.reason == "Planned"
    assert {cost.reason for cost in losses_of_workers} <= {"PodLost", "WorkerLost"}
    assert job.status.restarts == len(losses_of_workers)
    # Other workers, another order of sums: the same up to float noise.
    assert story.test == pytest.approx(calm.test, abs=1e-3)
    curve, moved = losses(client, "calm"), losses(client, "job")
    # One more was saved where the group grew, and on a busy disk one that waits gives way.
    both = curve.keys() & moved.keys()
    assert 8000 in both
    assert [moved[step] for step in both] == pytest.approx([curve[s] for s in both], abs=1e-3)
