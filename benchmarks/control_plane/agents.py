"""Simulated agents: each has a connection and the real agents' link, and no trainer.

    python -m benchmarks.control_plane.agents --home DIR --socket PATH --share 0 --of 2

Follows the journal of pods and is the agent of every pod of every job in its share. A chief makes
steps and tells of them as a real one does: a record a second, in the job's record file first.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.control_plane.journal import NAME, Born, Gone, Tail
from controller.local.access import PodTokens
from protos.taas.v1 import history_pb2, job_pb2
from protos.taas.v1 import worker_service_pb2 as wire
from trainer.link import OPTIONS, Controller, Link
from trainer.storage import JobPaths

_LOOK_EVERY_S = 0.05
# As trainer.progress has it, which cannot be imported without TensorFlow.
_RECORD_EVERY_S = 1.0
_STEPS_PER_S = 100


@dataclass(frozen=True, slots=True)
class OwnLine(Controller):
    """A way to the controller that is not shared: gRPC would take one connection for all agents
    of this process, and those of a cluster have one each."""

    token: str = ""

    def channel(self) -> grpc.aio.Channel:
        """Return a new channel, with the link's own patience."""
        options = [("grpc.use_local_subchannel_pool", 1), *OPTIONS]
        return grpc.aio.insecure_channel(self.target, options=options)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a stream begins with."""
        return (("authorization", f"Bearer {self.token}"),)


class SimulatedAgent:
    """The agent of one pod."""

    def __init__(self, pod: Born, line: OwnLine, storage: Path) -> None:
        self._pod = pod
        self._paths = JobPaths(storage, pod.namespace, pod.job, pod.job_uid)
        self._link = Link(
            line,
            hello=self._hello,
            heartbeat=self._heartbeat,
            read_log=self._read_log,
            on_order=self._obey,
        )
        self._generation = 0
        self._newest = 0
        self._chief = False
        self._began = 0.0
        self._exited: wire.Exited | None = None
        self._progress: job_pb2.Progress | None = None
        self._records = 0

    async def run(self) -> None:
        """Work until cancelled or released."""
        training = asyncio.create_task(self._train())
        try:
            await self._link.run()
        finally:
            training.cancel()

    @property
    def _step(self) -> int:
        return int((time.monotonic() - self._began) * _STEPS_PER_S) if self._generation else 0

    def _hello(self) -> wire.Hello:
        pod = self._pod
        return wire.Hello(
            namespace=pod.namespace,
            job=pod.job,
            job_uid=pod.job_uid,
            index=pod.index,
            pod_uid=pod.uid,
            address="127.0.0.1:1",
            running=self._generation,
            exited=self._exited,
            heartbeat=self._heartbeat(),
        )

    def _heartbeat(self) -> wire.Heartbeat:
        beat = wire.Heartbeat(address="127.0.0.1:1", generation=self._generation, step=self._step)
        if self._generation:
            beat.stage = wire.TRAINER_STAGE_TRAINING
        if self._progress is not None:
            beat.progress.CopyFrom(self._progress)
        return beat

    async def _read_log(self, offset: int, most: int) -> tuple[int, bytes]:
        return offset, b""

    def _obey(self, order: wire.ConnectResponse) -> None:
        kind = order.WhichOneof("kind")
        if kind == "start" and order.start.generation > self._newest:
            self._newest = self._generation = order.start.generation
            self._chief = order.start.position == 0
            self._began, self._records = time.monotonic(), 0
            self._link.beat()
        elif kind == "stop":
            saved = wire.OUTCOME_SAVED if order.stop.save else wire.OUTCOME_STOPPED
            self._newest = max(self._newest, order.stop.generation)
            self._exited = wire.Exited(generation=order.stop.generation, outcome=saved)
            self._generation = 0
            self._link.send(wire.ConnectRequest(exited=self._exited))
            self._link.beat()
        elif kind == "release":
            self._link.close()

    async def _train(self) -> None:
        # Chiefs do not speak all at once.
        await asyncio.sleep(random.uniform(0, _RECORD_EVERY_S))
        while True:
            if self._chief and self._generation:
                self._tell()
            await asyncio.sleep(_RECORD_EVERY_S)

    def _tell(self) -> None:
        """Write a record and send it."""
        self._progress = job_pb2.Progress(
            step=self._step,
            total_steps=1_000_000,
            loss=0.25,
            metrics={"accuracy": 0.9},
            examples_per_second=1000,
        )
        record = history_pb2.Record(
            generation=self._generation, index=self._records, progress=self._progress
        )
        stamp = Timestamp()
        stamp.GetCurrentTime()
        record.time.CopyFrom(stamp)
        self._records += 1
        self._paths.records.mkdir(parents=True, exist_ok=True)
        with self._paths.record_file(self._generation).open("a") as file:
            file.write(json_format.MessageToJson(record, indent=None) + "\n")
        self._link.send(wire.ConnectRequest(record=record))


@asynccontextmanager
async def ended(tasks: dict[str, asyncio.Task[None]]) -> AsyncIterator[None]:
    """End the tasks with the block."""
    try:
        yield
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def simulate(home: Path, target: str, share: int, of: int) -> None:
    """Be the agents of a share of the jobs until cancelled."""
    tokens, tail = PodTokens.of(home), Tail(home / NAME)
    running: dict[str, asyncio.Task[None]] = {}
    async with ended(running):
        while True:
            for told in tail.read():
                if isinstance(told, Gone):
                    if told.uid in running:
                        running.pop(told.uid).cancel()
                elif zlib.crc32(told.job_uid.encode()) % of == share:
                    line = OwnLine(target, token=tokens.token(told.uid))
                    agent = SimulatedAgent(told, line, home / "storage")
                    running[told.uid] = asyncio.create_task(agent.run())
            await asyncio.sleep(_LOOK_EVERY_S)


def main() -> None:
    """Simulate until the process ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--share", type=int, required=True)
    parser.add_argument("--of", type=int, required=True)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(simulate(options.home, f"unix:{options.socket}", options.share, options.of))


if __name__ == "__main__":
    main()
