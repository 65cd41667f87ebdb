"""A job that is deleted, whatever lies in its folder and whoever still writes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from controller.local.trees import remove_tree
from controller.model import Job
from controller.ports import Storage
from trainer.storage import JobPaths


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
