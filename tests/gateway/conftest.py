"""Fixtures of the gateway tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.model import Job
from tests.contracts.jobs import a_job
from tests.gateway.processes import ProcessPods
from trainer.storage import JobPaths


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The claim."""
    root = tmp_path / "storage"
    root.mkdir()
    return root


@pytest.fixture
def pods(root: Path, tmp_path: Path) -> Iterator[ProcessPods]:
    """Gateways as processes."""
    pods = ProcessPods(root, tmp_path)
    yield pods
    pods.close()


@pytest.fixture
def job() -> Job:
    """A job whose claim is the default one."""
    return a_job()


@pytest.fixture
def paths(root: Path, job: Job) -> JobPaths:
    """The job's folders."""
    paths = JobPaths(root, job.key.namespace, job.key.name, job.uid)
    for folder in (paths.records, paths.checkpoints, paths.logs, paths.output):
        folder.mkdir(parents=True)
    return paths
