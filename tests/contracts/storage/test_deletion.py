"""A job that is deleted, whatever lies in its folder and whoever still writes."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.local.trees import remove_tree
from controller.model import Job
from controller.ports import Storage
from trainer.storage import JobPaths

Dig = Callable[[Path, int], int]


async def test_a_deleted_job_leaves_nothing(
    storage: Storage, root: Path, job: Job, output: Path
) -> None:
    output.joinpath("model").chmod(0)
    await storage.delete_job(job)
    assert list((root / "jobs").iterdir()) == []
    await storage.delete_job(job)


async def test_a_namesakes_files_stay(
    storage: Storage, root: Path, job: Job, paths: JobPaths
) -> None:
    other = paths.folder.parent / "another-uid"
    other.mkdir()
    await storage.delete_job(job)
    assert list(paths.folder.parent.iterdir()) == [other]


async def test_a_folder_that_became_a_link_goes_without_its_target(
    storage: Storage, job: Job, paths: JobPaths, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "kept").touch()
    remove_tree(paths.folder)
    paths.folder.symlink_to(target)
    await storage.delete_job(job)
    assert not paths.folder.is_symlink()
    assert (target / "kept").exists()


async def test_files_written_while_a_job_is_deleted_go_too(
    storage: Storage, job: Job, paths: JobPaths
) -> None:
    stop = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                (paths.output / f"{number}").touch()
            except FileNotFoundError:
                return
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        await storage.delete_job(job)
        stop.set()
    assert not paths.folder.exists()


@pytest.mark.parametrize(
    "levels",
    [
        pytest.param(1200, id="deeper than Python recurses"),
        pytest.param(5000, id="deeper than a path can name"),
    ],
)
async def test_a_job_goes_however_deep_its_files_lie(
    storage: Storage,
    root: Path,
    job: Job,
    paths: JobPaths,
    tmp_path: Path,
    dig: Dig,
    levels: int,
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "kept").touch()
    deepest = dig(paths.output, levels)
    os.symlink(target, "link", dir_fd=deepest)
    os.mkdir("shut", mode=0, dir_fd=deepest)
    os.close(deepest)
    await storage.delete_job(job)
    assert list((root / "jobs").iterdir()) == []
    assert (target / "kept").exists()


def test_folders_go_whatever_their_modes_forbid(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "shut" / "below").mkdir(parents=True)
    (tree / "shut" / "below" / "file").touch()
    for folder in (tree / "shut" / "below", tree / "shut", tree):
        folder.chmod(0)
    remove_tree(tree)
    assert list(tmp_path.iterdir()) == []


def test_deep_folders_go_whatever_their_modes_forbid(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    folder = tree.joinpath(*["x"] * 100)
    folder.mkdir(parents=True)
    while folder != tmp_path:
        (folder / "file").touch()
        folder.chmod(0o500)
        folder = folder.parent
    remove_tree(tree)
    assert list(tmp_path.iterdir()) == []


def test_a_removal_that_was_interrupted_is_finished_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".removed-tree" / "x").mkdir(parents=True)
    (tmp_path / ".removed-tree" / "file").touch()
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_no_more_descriptors_are_held_for_a_deep_tree(tmp_path: Path, dig: Dig) -> None:
    (tmp_path / "tree").mkdir()
    os.close(dig(tmp_path / "tree", 1200))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 100, hard))
    try:
        remove_tree(tmp_path / "tree")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
