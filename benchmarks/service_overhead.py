"""What the service costs: the demo's training through all of it, beside a bare loop.

    python -m benchmarks.service_overhead [--blocks 10] [--turns 30] [--seconds 1]

Both sides train LeNet-5 on MNIST with two workers, each on a core of its own. They are started
and warmed up together, then take turns: while all processes of one side run, those of the other
stand still. A block of turns gives each side's rate and their ratio; the result is the median of
the blocks. Starting and ending are not in it; checkpoints of the default policy and everything
that agents and controller do meanwhile are. CPU seconds a step of all processes are given as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import machine
from benchmarks.sides import ROOT, WORKERS, BareLoop, Service, check_pinning, prepared
from benchmarks.turns import Turns

RESULTS = ROOT / "benchmarks/results"
# Epochs of the job: more than any run of this makes; both sides are ended when all is measured.
_ENDLESS = 10_000
_LONGEST_TURN_S = 1.5
_WHY_SHORT = "in a side that stands still for longer TensorFlow's own heartbeats fail"


@dataclass(frozen=True, slots=True)
class Rate:
    """What a side did in a block."""

    examples_per_s: float
    steps: float
    seconds: float
    cpu_ms_a_step: Mapping[str, float]

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a step of all processes together."""
        return sum(self.cpu_ms_a_step.values())


@dataclass(frozen=True, slots=True)
class Block:
    """The turns of both sides that are compared with each other."""

    service: Rate
    bare: Rate

    @property
    def rate_ratio(self) -> float:
        """The service's rate by the bare loop's: 1 costs nothing."""
        return self.service.examples_per_s / self.bare.examples_per_s

    @property
    def cpu_ratio(self) -> float:
        """The service's CPU time a step by the bare loop's."""
        return self.service.cpu_ms / self.bare.cpu_ms


def measure(blocks: int, turns: int, seconds: float, batch: int, warm_up: int) -> dict[str, Any]:
    """Let both sides take their turns; returns the blocks and how many checkpoints were in them."""
    parameters = {"batch": str(batch), "epochs": str(_ENDLESS)}
    with (
        prepared() as (source, scratch),
        closing(Service(source, scratch, parameters)) as service,
        Turns(service) as ours,
        closing(BareLoop(source, scratch, parameters)) as bare,
        Turns(bare) as theirs,
    ):
        for side in (service, bare):
            side.wait_for(warm_up)
            check_pinning(side)
        ours.stop()
        theirs.stop()
        began = time.time()
        for number in track(range(blocks * turns), "turns of both"):
            # Who is first changes, so that neither always follows the other's last caches.
            for one in (ours, theirs) if number % 2 else (theirs, ours):
                one.take(seconds)
        ended = time.time()
        theirs.finish()
        ours.finish()
        found = [
            Block(*(_rate(one, 1 + first, turns, batch) for one in (ours, theirs)))
            for first in range(0, blocks * turns, turns)
        ]
        ours.go()
        service.check()
        saved = sum(began < at < ended for at in service.checkpoint_times)
    return {"blocks": found, "checkpoints": saved}


def _rate(one: Turns, first: int, turns: int, batch: int) -> Rate:
    end = first + turns
    steps, seconds = one.steps(first, end), one.seconds(first, end)
    cpu = {kind: 1000 * used / steps for kind, used in one.cpu(first, end).items()}
    return Rate(steps * batch / seconds, steps, seconds, cpu)


def report(blocks: Sequence[Block], checkpoints: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """Print the table and return the figures behind it."""
    table = Table(title="LeNet-5 on MNIST, two workers on a core each", title_justify="left")
    for column in ("", "examples/s", "lowest", "highest", "CPU ms/step"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    medians: dict[str, dict[str, float]] = {}
    for side, rates in (
        ("service", [block.service for block in blocks]),
        ("bare loop", [block.bare for block in blocks]),
    ):
        examples = [rate.examples_per_s for rate in rates]
        cpu = statistics.median(rate.cpu_ms for rate in rates)
        medians[side] = {"examples_per_s": statistics.median(examples), "cpu_ms_a_step": cpu}
        figures = (statistics.median(examples), min(examples), max(examples))
        table.add_row(side, *(f"{figure:,.0f}" for figure in figures), f"{cpu:.2f}")
        kinds = list(rates[0].cpu_ms_a_step)
        for kind in kinds if len(kinds) > 1 else ():
            used = statistics.median(rate.cpu_ms_a_step[kind] for rate in rates)
            table.add_row(f"  {kind}", "", "", "", f"{used:.2f}")
    console = Console()
    console.print(table)
    ratios = [block.rate_ratio for block in blocks]
    cpu_ratios = [block.cpu_ratio for block in blocks]
    ratio, cpu_ratio = statistics.median(ratios), statistics.median(cpu_ratios)
    console.print(
        f"service / bare loop, median of {len(blocks)} blocks: rate {ratio:.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}), CPU a step {cpu_ratio:.3f} "
        f"({min(cpu_ratios):.3f} to {max(cpu_ratios):.3f}); {checkpoints} checkpoints were saved"
    )
    console.print(
        f"{about['cpu']}, {about['cores']} cores, load average at the start "
        f"{about['load_average_at_start'][0]:.2f}"
    )
    return {"medians": medians, "rate_ratio": ratio, "cpu_ratio": cpu_ratio}


def main() -> int:
    """Measure, print, and write the raw figures down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service_overhead")
    parser.add_argument("--blocks", type=int, default=10, help="blocks of turns (10)")
    parser.add_argument("--turns", type=int, default=30, help="turns of each side a block (30)")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of a turn (1)")
    parser.add_argument("--warm-up", type=int, default=200, help="steps left out first (200)")
    parser.add_argument("--batch", type=int, default=250, help="global batch (250, the demo's)")
    arguments = parser.parse_args()
    if not 0 < arguments.seconds <= _LONGEST_TURN_S:
        parser.error(f"--seconds must be above 0 and at most {_LONGEST_TURN_S:g}: {_WHY_SHORT}")
    if arguments.batch % WORKERS:
        parser.error(f"--batch must divide by {WORKERS}: the bare loop pads nothing")
    about = machine.describe()
    began = time.monotonic()
    measured = measure(
        arguments.blocks, arguments.turns, arguments.seconds, arguments.batch, arguments.warm_up
    )
    blocks, checkpoints = measured["blocks"], measured["checkpoints"]
    figures = report(blocks, checkpoints, about)
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"service_overhead-{now:%Y%m%dT%H%M%SZ}.json"
    document = {
        "time": now.isoformat(),
        "arguments": vars(arguments),
        "machine": about,
        **figures,
        "checkpoints": checkpoints,
        "blocks": [
            {**asdict(b), "rate_ratio": b.rate_ratio, "cpu_ratio": b.cpu_ratio} for b in blocks
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{path.relative_to(ROOT)} after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
