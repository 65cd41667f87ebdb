"""Checkpoints, and the files that a job leaves."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.errors import JobNotFound
from controller.local.trees import remove_tree
from controller.model import Checkpoint, Job
from controller.ports import Storage
from trainer.storage import Fence, FileEntry, JobPaths, Manifest


def _checkpoint(paths: JobPaths, step: int, generation: int = 1) -> Manifest:
    files = (FileEntry("variables.index", 3, "0" * 64), FileEntry("variables.data", 4, "0" * 64))
    manifest = Manifest(step, generation, 1714996800.0, files, {"loss": 0.5, "accuracy": 0.9})
    folder = paths.checkpoints / manifest.id
    folder.mkdir()
    for entry in files:
        (folder / entry.path).write_bytes(b"x" * entry.size)
    (folder / "manifest.json").write_text(manifest.to_json())
    return manifest


async def test_committed_checkpoints_come_newest_first(
    storage: Storage, job: Job, paths: JobPaths
) -> None:
    for step in (100, 300, 200):
        _checkpoint(paths, step)
    (paths.checkpoints / "step-0000000400.g000001").mkdir()
    late = _checkpoint(paths, 350)
    fence = Fence(2, 300)
    (paths.fences / "g000002.json").write_text(
        f'{{"generation": {fence.generation}, "base_step": {fence.base_step}}}'
    )
    found = await storage.checkpoints(job)
    assert [checkpoint.step for checkpoint in found] == [300, 200, 100]
    assert late.id not in {checkpoint.id for checkpoint in found}
    assert found[0] == Checkpoint(
        id="step-0000000300.g000001",
        step=300,
        generation=1,
        size_bytes=7,
        created=datetime(2024, 5, 6, 12, tzinfo=UTC),
        metrics=(("accuracy", 0.9), ("loss", 0.5)),
    )


async def test_files_of_a_checkpoint(storage: Storage, job: Job, paths: JobPaths) -> None:
    made = _checkpoint(paths, 100)
    listed = await storage.files(job, made.id)
    size = os.stat(paths.checkpoints / made.id / "manifest.json").st_size
    assert listed == (("manifest.json", size), ("variables.data", 4), ("variables.index", 3))
    assert await storage.read_file(job, made.id, "variables.data", 1, 100) == b"xxx"


@pytest.mark.parametrize("checkpoint", ["", "..", "nonsense", "step-0000000007.g000001"])
async def test_an_unknown_checkpoint_is_not_found(
    storage: Storage, job: Job, paths: JobPaths, checkpoint: str
) -> None:
    (paths.checkpoints / "step-0000000007.g000001").mkdir()
    with pytest.raises(JobNotFound, match="checkpoint"):
        await storage.files(job, checkpoint)
    with pytest.raises(JobNotFound, match="checkpoint"):
        await storage.read_file(job, checkpoint, "variables.data", 0, 1)


@pytest.mark.usefixtures("output")
async def test_only_finished_plain_files_are_listed(storage: Storage, job: Job) -> None:
    assert await storage.files(job, None) == (
        ("a file, é", 10),
        ("model/assets/empty", 0),
        ("model/saved_model.pb", 5),
    )


@pytest.mark.usefixtures("output")
async def test_files_are_read_by_offset(storage: Storage, job: Job) -> None:
    assert await storage.read_file(job, None, "a file, é", 0, 4) == b"0123"
    assert await storage.read_file(job, None, "a file, é", 8, 4) == b"89"
    assert await storage.read_file(job, None, "a file, é", 10, 4) == b""
    assert await storage.read_file(job, None, "model/saved_model.pb", 0, 9) == b"model"


@pytest.mark.usefixtures("output")
@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../output/a file, é",
        "model/../a file, é",
        "model//saved_model.pb",
        "./model/saved_model.pb",
        "model/",
        "model",
        "missing",
        "a file, é/x",
        "link",
        "loop",
        "out/secret",
        "inner/saved_model.pb",
        "pipe",
        "nul\0",
        "x" * 300,
        "x/" * 3000 + "x",
    ],
)
async def test_nothing_else_can_be_read(storage: Storage, job: Job, path: str) -> None:
    with pytest.raises(JobNotFound):
        await storage.read_file(job, None, path, 0, 10)


async def test_a_tree_that_is_a_link_is_not_followed(
    storage: Storage, job: Job, output: Path, tmp_path: Path
) -> None:
    remove_tree(output)
    os.symlink(tmp_path, output)
    assert await storage.files(job, None) == ()
    with pytest.raises(JobNotFound):
        await storage.read_file(job, None, "secret", 0, 10)
