"""How long a job takes to start on one machine, and where the time goes.

    python -m benchmarks.start [--starts 9]

A small training of two workers. Cold: no service runs; from the command that starts one to the
job's first step. Warm: the service is up and has run a job before; from the call that submits.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import taas
from benchmarks import machine, record
from protos.taas.v1.job_pb2 import PHASE_RUNNING, PHASE_STARTING
from taas.service import LocalService
from tests.service.world import TASK

WORKERS = 2


def moments(client: taas.Client, name: str) -> dict[str, float]:
    """Submit the training and return when each moment of its start was, in seconds since the
    epoch: as the job's history tells them, but for those that are this process's own."""
    client.submit(TASK, name=name, workers=WORKERS, parameters={"steps": 1_000_000})
    found = {"stored": time.time()}
    for event in client.watch(name):
        at = event.time.ToNanoseconds() / 1e9
        if event.state.to == PHASE_STARTING:
            found["all workers there"] = at
        elif event.state.to == PHASE_RUNNING:
            found["told of as running"] = at
        elif event.record.HasField("progress"):
            found["first step"] = event.record.time.ToNanoseconds() / 1e9
            found["first step told to a watcher"] = time.time()
        if {"first step", "told of as running"} <= found.keys():
            break
    return found


def since(began: float, found: Mapping[str, float]) -> dict[str, float]:
    """Seconds from the beginning to each moment, in their order."""
    return {what: at - began for what, at in sorted(found.items(), key=lambda item: item[1])}


def medians(starts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The medians of each moment, in their order."""
    found = {what: statistics.median(start[what] for start in starts) for what in starts[0]}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _cold(folder: Path) -> dict[str, float]:
    began = time.time()
    service = LocalService(folder)
    service.start()
    up = time.time()
    with closing(taas.Client(service.target)) as client:
        found = moments(client, "cold")
        client.delete("cold")
    service.stop()
    return since(began, {"service answers": up, **found})


def _warm(folder: Path, number: int) -> list[dict[str, float]]:
    service = LocalService(folder)
    service.start()
    starts = []
    with closing(taas.Client(service.target)) as client:
        for start in range(number + 1):
            began = time.time()
            starts.append(since(began, moments(client, f"warm-{start}")))
            client.delete(f"warm-{start}")
    service.stop()
    return starts[1:]


def main() -> int:
    """Measure both, print the medians and keep all of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start")
    parser.add_argument("--starts", type=int, default=9, help="starts of each kind (9)")
    arguments = parser.parse_args()
    about = machine.describe()
    with tempfile.TemporaryDirectory(prefix="taas-bench-") as folder:
        cold = [_cold(Path(folder, f"cold-{number}")) for number in range(arguments.starts)]
        warm = _warm(Path(folder, "warm"), arguments.starts)
    for kind, starts in (("cold", cold), ("warm", warm)):
        print(f"{kind}, median of {len(starts)}:")
        for what, seconds in medians(starts).items():
            print(f"{seconds:6.2f} s  {what}")
    typical = {"cold": medians(cold), "warm": medians(warm)}
    figures = {"medians": typical, "cold": cold, "warm": warm}
    record.keep(record.dated("start"), vars(arguments), about, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
