"""The controller under measurement: everything of the local backend but processes for pods.

python -m benchmarks.plane.controller HOME
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from benchmarks.plane.pods import ToldPods
from controller.limits import CallLimits, Limits
from controller.local.access import LocalAccess, PodTokens
from controller.local.storage import FolderStorage
from controller.local.store import SqliteStore
from controller.render import PodSettings
from controller.server import Listener, serving
from protos.taas.v1 import training_service_pb2

SOCKET = "taas.sock"
# What one caller gets is not what is measured here.
_LIMITS = Limits(
    max_jobs=1_000_000,
    max_namespace_workers=1_000_000,
    calls=CallLimits(calls=256, waiting=10_000, streams=100_000),
)


async def serve(home: Path) -> None:
    """Serve until killed."""
    address = f"unix:{home / SOCKET}"
    storage = home / "storage"
    settings = PodSettings(controller=address, storage_root=str(storage))
    info = training_service_pb2.ServiceInfo(version="0", backend="local", pid=os.getpid())
    async with (
        SqliteStore(home / "state.db") as store,
        serving(
            Listener(address),
            store,
            ToldPods(home),
            FolderStorage(storage),
            access=LocalAccess(PodTokens.of(home)),
            pods=lambda: settings,
            info=info,
            limits=_LIMITS,
        ),
    ):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
