"""How much the controller bears on this machine, and where it ends.

    python -m benchmarks.control_plane [--jobs 10000] [--running 1250] [--workers 4]
                                       [--watchers 1000] [--steps 4] [--seconds 15]

Submits so many jobs that are held, then lets more and more of them run, with an agent for each
of their workers, and looks at each step how long a wish takes to be carried out and told. Then
watchers come, all to one job, and one to each of as many jobs; at last the controller is killed
under all of it and started again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks import machine, record
from benchmarks.control_plane.client import Client, upload
from benchmarks.control_plane.measuring import Bench, Shape
from benchmarks.control_plane.processes import Plane
from benchmarks.control_plane.report import Report


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control_plane")

    def add(option: str, default: int, what: str) -> None:
        parser.add_argument(option, type=int, default=default, help=f"{what} ({default})")

    add("--jobs", 10_000, "jobs in all")
    add("--running", 1_250, "of them running in the end")
    add("--workers", 4, "workers of a job")
    add("--watchers", 1_000, "watchers of one job, and jobs with a watcher each")
    add("--steps", 4, "steps in which jobs begin to run")
    add("--seconds", 15, "how long to look at each step")
    add("--processes", 2, "processes that simulate agents")
    return parser.parse_args()


async def _measured(plane: Plane, options: argparse.Namespace) -> Report:
    """Measure one thing after the other, and say so."""
    target = f"unix:{plane.socket}"
    source = await asyncio.to_thread(upload, target)
    caller = Client(target, source, options.workers)
    shape = Shape(
        options.jobs,
        options.running,
        options.workers,
        looks=options.steps + 1,
        seconds=options.seconds,
    )
    bench, report = Bench(plane, caller, shape), Report()
    try:
        report.add(await bench.submits(options.jobs))
        for step in range(options.steps + 1):
            report.add(await bench.load(options.running * step // options.steps))
        report.add(await bench.submits(options.jobs // 20))
        one, each = bench.running[-1:], bench.running[: options.watchers]
        for parts in (4, 2, 1):
            report.add(await bench.watch(one, options.watchers // parts))
        report.add(await bench.watch(one, options.watchers * 2))
        report.add(await bench.watch(each, len(each)))
        report.add(await bench.restart(each))
    finally:
        await caller.aclose()
    return report


def main() -> int:
    """Measure, print the table and keep everything."""
    options = _arguments()
    about = machine.describe()
    with (
        tempfile.TemporaryDirectory(prefix="taas-bench-") as folder,
        Plane(Path(folder), options.processes) as plane,
    ):
        report = asyncio.run(_measured(plane, options))
    print("\n".join(report.lines()))
    record.keep(record.dated("control_plane"), vars(options), about, report.document())
    return 0


if __name__ == "__main__":
    sys.exit(main())
