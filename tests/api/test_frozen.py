"""A client that is frozen is noticed, though its machine still answers for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil

from protos import keepalive
from taas.service import module_environment
from tests.api.world import BOUND_S, served, until


def connections(path: Path) -> int:
    """Return how many sockets of this process have that path: the one that listens, and one for
    each client."""
    found = psutil.Process().net_connections(kind="unix")
    return sum(each.laddr == str(path) for each in found)


async def test_a_frozen_client_is_hung_up_on(folder: Path) -> None:
    async with served(folder, pings=keepalive.pings(every_s=1, answer_s=1)) as world:
        await world.submit("one")
        await world.agent("one", 0)
        before = connections(folder / "taas.sock")
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taas", "watch", "one", "--target", world.address),
            env=module_environment(),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert client.stdout is not None
            async with asyncio.timeout(BOUND_S):
                assert b"worker index=0" in await client.stdout.readline()
            assert connections(folder / "taas.sock") == before + 1
            os.kill(client.pid, signal.SIGSTOP)

            async def hung_up() -> bool:
                return connections(folder / "taas.sock") == before

            await until(hung_up)
        finally:
            client.kill()
            await client.wait()
