"""A process with a ProcessCluster, to be killed: applies one pod, may begin to delete it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

from controller.local.cluster import ProcessCluster
from tests.contracts.jobs import a_job
from tests.contracts.worlds import ProcessWorld


async def _run(folder: Path, uid: str, options: list[str], grace_s: int | None) -> None:
    job = replace(a_job(), uid=uid)
    async with ProcessCluster(folder / "home") as cluster:
        world = ProcessWorld(folder, cluster)
        await world.create(job, 0, *options)
        if grace_s is not None:
            await cluster.delete(job, "mnist-0", grace_s)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), sys.argv[2], *json.loads(sys.argv[3])))
