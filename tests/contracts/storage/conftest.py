"""The storages of the contract: a folder, directly and through a gateway."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from controller.gateway.pool import GatewayPool
from controller.gateway.storage import GatewayStorage
from controller.local.storage import FolderStorage
from controller.local.trees import remove_tree
from controller.model import DEFAULT_CLAIM, Job
from controller.ports import Storage
from tests.contracts.jobs import a_job
from tests.gateway.processes import GatewayProcess, ProcessPods
from trainer.storage import JobPaths


@pytest.fixture(scope="package")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One real gateway for all tests of this folder; each finds its claim empty."""
    folder = tmp_path_factory.mktemp("gateway")
    process = GatewayProcess(folder / "storage", folder)
    yield process
    process.end()


@pytest.fixture(params=["folder", "gateway"])
def gateway(request: pytest.FixtureRequest) -> GatewayProcess | None:
    """The gateway to go through, if any."""
    return request.getfixturevalue("process") if request.param == "gateway" else None


@pytest.fixture
def root(gateway: GatewayProcess | None, tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "storage" if gateway is None else gateway.root
    yield root
    remove_tree(root)


@pytest.fixture
async def storage(
    gateway: GatewayProcess | None, root: Path, tmp_path: Path
) -> AsyncIterator[Storage]:
    if gateway is None:
        yield FolderStorage(root)
        return
    pods = ProcessPods(root, tmp_path)
    pods.running = {(namespace, DEFAULT_CLAIM): gateway for namespace in ("default", "other")}
    async with GatewayPool(pods) as pool:
        yield GatewayStorage(pool)
    assert (pods.started, pods.deleted) == (0, [])


@pytest.fixture
def job() -> Job:
    return a_job()


@pytest.fixture
def paths(root: Path, job: Job) -> JobPaths:
    paths = JobPaths(root, job.key.namespace, job.key.name, job.uid)
    for folder in (paths.records, paths.fences, paths.checkpoints, paths.logs, paths.output):
        folder.mkdir(parents=True)
    return paths


@pytest.fixture
def output(paths: JobPaths, tmp_path: Path) -> Path:
    """An output folder with all that a program may leave in it."""
    output = paths.output
    (output / "model" / "assets").mkdir(parents=True)
    (output / "model" / "saved_model.pb").write_bytes(b"model")
    (output / "model" / "assets" / "empty").touch()
    (output / "a file, é").write_bytes(b"0123456789")
    (output / ".tmp-model.keras").write_bytes(b"unfinished")
    (output / ".tmpdir").mkdir()
    (output / ".tmpdir" / "x").touch()
    (tmp_path / "secret").write_bytes(b"secret")
    (output / "link").symlink_to(tmp_path / "secret")
    (output / "inner").symlink_to("model")
    (output / "out").symlink_to(tmp_path)
    (output / "loop").symlink_to("loop")
    os.mkfifo(output / "pipe")
    Path(os.fsdecode(os.fsencode(output) + b"/not-utf8-\xff")).touch()
    return output
