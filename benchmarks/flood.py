"""What a caller notices of another one's flood.

    python -m benchmarks.flood [--seconds 20] [--jobs 500]

A controller with its real gRPC server, guard and limits, and a store in memory, is a process of
its own. Ada, in another process, keeps three hundred calls under way that each list all jobs; Bob
asks for one job again and again. How long he waits, with and without her.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc

from benchmarks import machine, record
from benchmarks.control_plane.client import channel
from benchmarks.rates import percentile
from controller.access.callers import Caller
from protos.taas.v1 import training_service_pb2 as pb
from protos.taas.v1 import training_service_pb2_grpc
from protos.taas.v1.job_pb2 import CommandProgram, TrainingJobSpec
from tests.api.world import NAMESPACE, create_request, job_name, served
from tests.fakes import FakeAccess

_CONNECTIONS, _CALLS = 3, 100
_TOKENS = {"ada": "a", "bob": "b"}
_VERBS = ("create", "list", "get")


async def serve(folder: Path, jobs: int) -> None:
    """Serve until standard input ends; say the address when there is something to ask for."""
    access = FakeAccess()
    access.callers = {token: Caller(name) for name, token in _TOKENS.items()}
    access.rights = {(name, verb, "default", "") for name in _TOKENS for verb in _VERBS}
    async with served(folder, access=access) as world:
        for number in range(jobs):
            request = create_request(f"job-{number}")
            command = CommandProgram(words=["true"])
            spec = TrainingJobSpec(command=command, workers=1, suspend=True)
            request.training_job.spec.CopyFrom(spec)
            await world.client.CreateTrainingJob(request, metadata=_shown("bob"))
        sys.stdout.write(f"{world.address}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


async def flood(address: str) -> None:
    """Keep calls under way until standard input ends; say how they ended."""
    codes: Counter[str] = Counter()
    over = asyncio.Event()

    async def call(method: Any) -> None:
        request = pb.ListTrainingJobsRequest(parent=NAMESPACE, page_size=1000)
        while not over.is_set():
            made = method(request, metadata=_shown("ada"))
            codes[(await made.code()).name] += 1

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            line = await stack.enter_async_context(channel(address))
            stub = training_service_pb2_grpc.TrainingServiceStub(line)
            for _ in range(_CALLS):
                group.create_task(call(stub.ListTrainingJobs))
        sys.stdout.write("flooding\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        over.set()
    sys.stdout.write(f"{json.dumps(codes)}\n")


def _shown(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {_TOKENS[name]}"),)


@contextmanager
def _process(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another part of this program, and the first line that it says."""
    command = [sys.executable, "-m", "benchmarks.flood", *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


def asked(address: str, seconds: float) -> list[float]:
    """How many milliseconds each of Bob's calls took, one after the other."""
    found = []
    request = pb.GetTrainingJobRequest(name=job_name("job-0"))
    with grpc.insecure_channel(address) as line:
        stub = training_service_pb2_grpc.TrainingServiceStub(line)
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            stub.GetTrainingJob(request, metadata=_shown("bob"))
            found.append((time.monotonic() - began) * 1000)
    return found


def summary(waits_ms: list[float]) -> dict[str, float]:
    """Median, 99th percentile and longest wait."""
    return {
        "calls": len(waits_ms),
        "median_ms": statistics.median(waits_ms),
        "p99_ms": percentile(waits_ms, 0.99),
        "longest_ms": max(waits_ms),
    }


def measure(seconds: float, jobs: int) -> dict[str, Any]:
    """Bob alone, and beside Ada."""
    with (
        tempfile.TemporaryDirectory(prefix="taas-") as folder,
        _process("--serve", folder, "--jobs", str(jobs)) as (server, address),
    ):
        asked(address, 1)
        alone = summary(asked(address, seconds))
        with _process("--flood", address) as (ada, _):
            beside = summary(asked(address, seconds))
            said, _ = ada.communicate()
        server.communicate()
    return {"alone": alone, "beside": beside, "flood": json.loads(said)}


def main() -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flood")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement (20)")
    parser.add_argument("--jobs", type=int, default=500, help="that each list tells of (500)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--flood", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(Path(arguments.serve), arguments.jobs))
        return 0
    if arguments.flood:
        asyncio.run(flood(arguments.flood))
        return 0
    about = machine.describe()
    results = measure(arguments.seconds, arguments.jobs)
    for name in ("alone", "beside"):
        print(name, {key: round(value, 2) for key, value in results[name].items()})
    print("flood", results["flood"])
    asked = {"seconds": arguments.seconds, "jobs": arguments.jobs}
    record.keep("flood", asked, about, {"results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
