"""The storage of a job is full: said while it lasts, and nothing that was committed is lost."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import taas
from protos.taas.v1.job_pb2 import CheckpointPolicy, TrainingJobSpec
from tests.service.world import BOUND_S, TASK, Service, Story, until

# A file system of its own for the storage, seen by the service and its workers alone.
SMALL_DISK = (
    *("unshare", "--map-root-user", "--mount", "sh", "-c"),
    'mkdir -p "$0" && mount -t tmpfs -o size=16m taas "$0" && exec "$@"',
)


@pytest.fixture
def small() -> Iterator[Service]:
    """A running service whose storage is a disk of 16 MB."""
    home = Path(tempfile.mkdtemp(prefix="taas-"))
    service = Service(home, wrapper=(*SMALL_DISK, f"{home}/storage"))
    service.start()
    yield service
    service.close()


def disk(service: Service) -> Path:
    """Return the storage as the service sees it."""
    assert service.controller is not None
    return Path(f"/proc/{service.controller.pid}/root{service.home}/storage")


def fill(service: Service) -> Path:
    """Take all room that is left; return the file to be removed."""
    path = disk(service) / "hog"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return path


def storage_failing(job: Any) -> Any:
    (condition,) = [c for c in job.status.conditions if c.type == "StorageFailing"]
    return condition


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
    hog = fill(small)
    job = until(
        lambda: (j := client.get("job")) and storage_failing(j).status == "True" and j,
        "the condition",
    )
    assert "No space left on device" in storage_failing(job).message
    assert job.status.restarts == 0, "training does not go on"
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
