"""All agents of all pods in one process: the agent's own Link for each, and no trainer below.

    python -m benchmarks.plane.agents HOME EVERY_S

A pod that is told of gets an agent; a chief that was told to start makes a step every so many
seconds, writes the record as a chief does, and tells of it.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format

from benchmarks.plane.controller import SOCKET
from benchmarks.plane.pods import Line, Reading
from controller.local.access import PodTokens
from protos.taas.v1 import history_pb2, job_pb2
from protos.taas.v1 import worker_service_pb2 as wire
from trainer.link import Controller, Link
from trainer.storage import JobPaths

_LOOK_S = 0.05
_TOTAL_STEPS = 1_000_000


@dataclass(frozen=True)
class Shown(Controller):
    """The controller, to which a pod's token is shown that is in no file."""

    token: str = ""

    def channel(self) -> grpc.aio.Channel:
        """Return a new channel with a connection of its own, as a process of its own has."""
        return grpc.aio.insecure_channel(
            self.target,
            options=(
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ),
        )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a stream begins with."""
        return (("authorization", f"Bearer {self.token}"),)


class Agent:
    """What the controller sees of a worker."""

    def __init__(self, home: Path, line: Line, token: str, every_s: float) -> None:
        """Make the link; `run` uses it."""
        self._line, self._every_s = line, every_s
        self._paths = JobPaths(home / "storage", line.namespace, line.job, line.job_uid)
        self._beat = wire.Heartbeat(address=f"127.0.0.1:{20_000 + line.index}")
        self._training: asyncio.Task[None] | None = None
        self._link = Link(
            Shown(f"unix:{home / SOCKET}", token=token),
            hello=self._hello,
            heartbeat=lambda: self._beat,
            read_log=self._no_log,
            on_order=self._obey,
        )

    async def run(self) -> None:
        """Stay connected until cancelled."""
        try:
            await self._link.run()
        finally:
            if self._training:
                self._training.cancel()

    async def _no_log(self, offset: int, most: int) -> tuple[int, bytes]:
        del most
        return offset, b""

    def _hello(self) -> wire.Hello:
        line = self._line
        return wire.Hello(
            namespace=line.namespace,
            job=line.job,
            job_uid=line.job_uid,
            index=line.index,
            pod_uid=line.uid,
            address=self._beat.address,
            running=self._beat.generation,
            heartbeat=self._beat,
        )

    def _obey(self, order: wire.ConnectResponse) -> None:
        kind = order.WhichOneof("kind")
        if kind == "start" and order.start.generation > self._beat.generation:
            self._beat.generation = order.start.generation
            self._beat.stage = wire.TRAINER_STAGE_TRAINING
            if order.start.position == 0:
                self._training = asyncio.create_task(self._train(order.start.generation))
            self._link.beat()

    async def _train(self, generation: int) -> None:
        """Make steps at times that differ from job to job."""
        path = self._paths.record_file(generation)
        path.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.sleep(random.uniform(0, self._every_s))
        with path.open("a") as file:
            for step in range(1, _TOTAL_STEPS):
                self._beat.step = step
                self._link.send(wire.ConnectRequest(record=_step(file, generation, step)))
                await asyncio.sleep(self._every_s)


def _step(file: Any, generation: int, step: int) -> history_pb2.Record:
    progress = job_pb2.Progress(step=step, total_steps=_TOTAL_STEPS, loss=1 / step)
    record = history_pb2.Record(generation=generation, index=step - 1, progress=progress)
    record.time.GetCurrentTime()
    file.write(json_format.MessageToJson(record, indent=None) + "\n")
    file.flush()
    return record


async def play(home: Path, every_s: float) -> None:
    """Have an agent for every pod that there is, until killed."""
    tokens, reading = PodTokens.of(home), Reading(home)
    tasks: dict[str, asyncio.Task[None]] = {}
    while True:
        for line in reading.more():
            if line.gone:
                tasks.pop(line.uid).cancel()
            else:
                agent = Agent(home, line, tokens.token(line.uid), every_s)
                tasks[line.uid] = asyncio.create_task(agent.run())
        await asyncio.sleep(_LOOK_S)


if __name__ == "__main__":
    asyncio.run(play(Path(sys.argv[1]), float(sys.argv[2])))
