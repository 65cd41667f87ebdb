"""A tenant's storage that does not answer holds up the removal of its own jobs, nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

from controller.errors import ClusterUnavailable
from controller.local.storage import FolderStorage
from controller.model import Job
from protos.taas.v1 import training_service_pb2 as pb
from tests.api.world import World, job_name, served, until


class StuckStorage(FolderStorage):
    """A folder that removes no job's files before it is let go, and then fails once for each."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []
        self.let_go = asyncio.Event()

    async def delete_job(self, job: Job) -> None:
        self.asked.append(job.key.name)
        await self.let_go.wait()
        if self.asked.count(job.key.name) == 1:
            raise ClusterUnavailable("the storage is away")
        await super().delete_job(job)


async def delete(world: World, job_id: str) -> None:
    """Ask for a job to be deleted and let its pods go."""
    await world.client.DeleteTrainingJob(pb.DeleteTrainingJobRequest(name=job_name(job_id)))

    async def podless() -> bool:
        world.cluster.finish_deletions()
        return not await world.cluster.pods(await world.job(job_id))

    await until(podless)


async def test_stuck_storage_stops_no_other_job(folder: Path) -> None:
    storage = StuckStorage(folder / "storage")
    names = [f"job-{number}" for number in range(6)]
    async with served(folder, storage=storage) as world:
        for name in names:
            await world.submit(name)
            await world.pods(name, 1)
        for name in names:
            await delete(world, name)

        async def all_slots_taken() -> bool:
            return len(storage.asked) == 4

        await until(all_slots_taken)
        await world.submit("other")
        await world.pods("other", 1)
        assert len(storage.asked) == 4
        storage.let_go.set()

        async def only_the_other() -> bool:
            return [key.name for key in await world.store.keys()] == ["other"]

        await until(only_the_other)
        assert sorted(storage.asked) == sorted(2 * names)
