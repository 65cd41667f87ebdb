"""Entry point of the controller on the local backend: `python -m controller --home --socket`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from controller.config import Config, parse_arguments
from controller.errors import TaasError
from controller.local.cluster import ProcessCluster
from controller.local.lock import StateLock
from controller.local.storage import FolderStorage
from controller.local.store import SqliteStore
from controller.render import PodSettings
from controller.server import service_version, serving
from controller.service import Limits
from protos.taas.v1 import training_service_pb2

# More than one small machine can run; the limit keeps a slip of the finger harmless.
_LOCAL_MAX_WORKERS = 32
_STOP_GRACE_S = 30


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    storage_root = config.home / "storage"
    limits = Limits(max_workers=_LOCAL_MAX_WORKERS)
    address = f"unix:{config.socket}"
    settings = PodSettings(
        controller=address, storage_root=str(storage_root), python=sys.executable
    )
    info = training_service_pb2.ServiceInfo(
        version=service_version(),
        backend="local",
        max_source_bytes=limits.max_source_bytes,
        max_workers=limits.max_workers,
        pid=os.getpid(),
        home=str(config.home),
    )
    store = SqliteStore(config.home / "state.db")
    cluster = ProcessCluster(config.home)
    storage = FolderStorage(storage_root)
    async with (
        store,
        cluster,
        serving(address, store, cluster, storage, pods=settings, info=info, limits=limits),
    ):
        await stop.wait()


async def _stop_workers(home: Path) -> None:
    async with ProcessCluster(home) as cluster:
        await cluster.stop_all(_STOP_GRACE_S)


def main() -> int:
    """Run until SIGTERM or SIGINT; the workers live on."""
    config = parse_arguments(sys.argv[1:])
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # All below the state folder is its owner's alone.
    os.umask(0o077)
    config.home.mkdir(parents=True, exist_ok=True)
    try:
        with StateLock(config.home):
            asyncio.run(_stop_workers(config.home) if config.stop_workers else _serve(config))
    except TaasError as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
