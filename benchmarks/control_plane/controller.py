"""The controller of one machine over pods that are no processes.

    python -m benchmarks.control_plane.controller --home DIR --socket PATH --workers-socket PATH \
        --metrics HOST:PORT

Wired as controller.run_local does; what differs are the pods, and limits that were not made for
one caller with thousands of streams.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from pathlib import Path

from benchmarks.control_plane.journal import JournalPods
from controller import process
from controller.limits import CallLimits, Limits
from controller.local.access import LocalAccess, PodTokens
from controller.local.lock import StateLock
from controller.local.storage import FolderStorage
from controller.local.store import SqliteStore
from controller.render import PodSettings
from controller.server import Listener, serving
from protos import __version__
from protos.taas.v1 import training_service_pb2

_LIMITS = Limits(calls=CallLimits(streams=100_000))


async def serve(home: Path, socket: Path, workers_socket: Path, metrics: str) -> None:
    """Serve until the process ends."""
    workers_at = f"unix:{workers_socket}"
    settings = PodSettings(controller=workers_at, storage_root=str(home / "storage"))
    info = training_service_pb2.ServiceInfo(version=__version__, backend="local", pid=os.getpid())
    store = SqliteStore(home / "state.db")
    async with (
        store,
        serving(
            Listener(f"unix:{socket}"),
            Listener(workers_at),
            store,
            JournalPods(home),
            FolderStorage(home / "storage"),
            access=LocalAccess(PodTokens.of(home)),
            pods=lambda: settings,
            info=info,
            limits=_LIMITS,
            metrics_address=metrics,
        ),
    ):
        await asyncio.get_running_loop().create_future()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--workers-socket", type=Path, required=True)
    parser.add_argument("--metrics", required=True)
    options = parser.parse_args()
    # As the controller itself logs, for that has its price as well.
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    process.prepare()
    with StateLock(options.home):
        asyncio.run(serve(options.home, options.socket, options.workers_socket, options.metrics))


if __name__ == "__main__":
    main()
