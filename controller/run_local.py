"""Runs the controller on one machine: SQLite, processes and a folder."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from controller.config import LocalConfig
from controller.limits import Limits
from controller.local.access import LocalAccess, PodTokens
from controller.local.cluster import ProcessCluster
from controller.local.lock import StateLock
from controller.local.nursery import Nursery
from controller.local.storage import FolderStorage
from controller.local.store import SqliteStore
from controller.render import PodSettings, agent_command
from controller.server import Listener, serving
from protos import __version__
from protos.taas.v1 import training_service_pb2

# More than one small machine can run; the limit keeps a slip of the finger harmless.
_MAX_WORKERS = 32
_STOP_GRACE_S = 30


async def run(config: LocalConfig) -> None:
    """Serve until cancelled, or end what workers there are."""
    # All below the state folder is its owner's alone.
    os.umask(0o077)
    config.home.mkdir(parents=True, exist_ok=True)
    with StateLock(config.home):
        if config.stop_workers:
            await _stop_workers(config.home)
        else:
            await _serve(config)


async def _serve(config: LocalConfig) -> None:
    storage_root = config.home / "storage"
    limits = Limits(max_workers=_MAX_WORKERS)
    workers_at = f"unix:{config.workers_socket}"
    settings = PodSettings(
        controller=workers_at, storage_root=str(storage_root), python=sys.executable
    )
    info = training_service_pb2.ServiceInfo(
        version=__version__,
        backend="local",
        max_source_bytes=limits.max_source_bytes,
        max_workers=limits.max_workers,
        pid=os.getpid(),
        home=str(config.home),
    )
    store = SqliteStore(config.home / "state.db")
    cluster = ProcessCluster(config.home, Nursery(config.home, agent_command(sys.executable)))
    storage = FolderStorage(storage_root)
    async with (
        store,
        cluster,
        serving(
            Listener(f"unix:{config.socket}"),
            Listener(workers_at),
            store,
            cluster,
            storage,
            access=LocalAccess(PodTokens.of(config.home)),
            pods=lambda: settings,
            info=info,
            limits=limits,
            metrics_address=config.metrics,
        ),
    ):
        await asyncio.get_running_loop().create_future()


async def _stop_workers(home: Path) -> None:
    async with ProcessCluster(home) as cluster:
        await cluster.stop_all(_STOP_GRACE_S)
