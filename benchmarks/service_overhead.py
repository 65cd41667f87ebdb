"""What the service costs: the demo's training through all of it, beside a bare loop.

    python -m benchmarks.service_overhead [--blocks 10] [--turns 30] [--seconds 1] [--mended]

Both sides train LeNet-5 on MNIST with two workers, each on a core of its own. They are started
and warmed up, then take turns: while all processes of one side run, those of the other
stand still. A block of turns gives each side's rate and their ratio; the result is the median of
the blocks. Starting and ending are not in it; checkpoints of the default policy and everything
that agents and controller do meanwhile are. CPU seconds a step of all processes are given as well.
With --mended the bare loop gets from the trainer what makes TensorFlow itself quicker; what is left
is the price of progress, checkpoints and supervision alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine, record
from benchmarks.bare_loop import STEPS_A_CALL
from benchmarks.pairs import LONGEST_TURN_S, WHY_SHORT, Comparison, Contender, Plan, compare
from benchmarks.rates import Block, Spread
from benchmarks.sides import SideFailed
from benchmarks.sides.programs import bare_loop
from benchmarks.sides.scratch import DEMO, ROOT, prepared
from benchmarks.sides.service import Service
from benchmarks.turns import Side

WORKERS = 2
# Epochs of the job: more than any run of this makes; both sides are ended when all is measured.
_ENDLESS = 10_000


def measure(plan: Plan, batch: int, mended: bool) -> Comparison:
    """Let both sides take their turns. Raises SideFailed."""
    parameters = {"batch": str(batch), "epochs": str(_ENDLESS)}
    files = {"lenet5.py": DEMO / "task.py", "task.py": Path(__file__).with_name("steps_only.py")}
    with prepared(files) as (source, scratch):

        def service() -> Side:
            submission = {"parameters": parameters}
            return Service(source, scratch / "home", workers=WORKERS, submission=submission)

        def bare() -> Side:
            return bare_loop(
                source,
                scratch / "bare.log",
                workers=WORKERS,
                parameters=parameters,
                steps_a_call=STEPS_A_CALL,
                mended=mended,
            )

        return compare(Contender(service, WORKERS, batch), Contender(bare, WORKERS, batch), plan)


def report(blocks: Sequence[Block], checkpoints: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """Print the table and return the figures behind it."""
    table = Table(title="LeNet-5 on MNIST, two workers on a core each", title_justify="left")
    for column in ("", "examples/s", "lowest", "highest", "CPU ms/step"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    medians: dict[str, dict[str, float]] = {}
    for side, rates in (
        ("service", [block.ours for block in blocks]),
        ("bare loop", [block.theirs for block in blocks]),
    ):
        examples = Spread.of(rate.examples_per_s for rate in rates)
        cpu = statistics.median(rate.cpu_ms for rate in rates)
        medians[side] = {"examples_per_s": examples.median, "cpu_ms_a_step": cpu}
        figures = (examples.median, examples.least, examples.greatest)
        table.add_row(side, *(f"{figure:,.0f}" for figure in figures), f"{cpu:.2f}")
        kinds = list(rates[0].cpu_ms_a_step)
        for kind in kinds if len(kinds) > 1 else ():
            used = statistics.median(rate.cpu_ms_a_step[kind] for rate in rates)
            table.add_row(f"  {kind}", "", "", "", f"{used:.2f}")
    console = Console()
    console.print(table)
    rate = Spread.of(block.rate_ratio for block in blocks)
    cpu_ratio = Spread.of(block.cpu_ratio for block in blocks)
    console.print(
        f"service / bare loop, median of {len(blocks)} blocks: rate {rate.text(3)}, "
        f"CPU a step {cpu_ratio.text(3)}; {checkpoints} checkpoints were saved"
    )
    console.print(
        f"{about['cpu']}, {about['cores']} cores, load average at the start "
        f"{about['load_average_at_start'][0]:.2f}"
    )
    return {"medians": medians, "rate_ratio": rate.median, "cpu_ratio": cpu_ratio.median}


def main() -> int:
    """Measure, print, and write the raw figures down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service_overhead")
    parser.add_argument("--blocks", type=int, default=10, help="blocks of turns (10)")
    parser.add_argument("--turns", type=int, default=30, help="turns of each side a block (30)")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of a turn (1)")
    parser.add_argument("--warm-up", type=int, default=200, help="steps left out first (200)")
    parser.add_argument("--batch", type=int, default=250, help="global batch (250, the demo's)")
    parser.add_argument("--mended", action="store_true", help="the bare loop with our mends")
    arguments = parser.parse_args()
    if not 0 < arguments.seconds <= LONGEST_TURN_S:
        parser.error(f"--seconds must be above 0 and at most {LONGEST_TURN_S:g}: {WHY_SHORT}")
    if arguments.batch % WORKERS:
        parser.error(f"--batch must divide by {WORKERS}: the bare loop pads nothing")
    about = machine.describe()
    began = time.monotonic()
    plan = Plan(arguments.blocks, arguments.turns, arguments.seconds, arguments.warm_up)
    try:
        found = measure(plan, arguments.batch, arguments.mended)
    except SideFailed as failure:
        raise SystemExit(f"a side failed: {failure}") from failure
    checkpoints, _ = found.checkpoints
    figures = report(found.blocks, checkpoints, about)
    found_all = {
        **figures,
        "checkpoints": checkpoints,
        "memory_mib": dict(zip(("service", "bare"), found.memory_mib, strict=True)),
        "blocks": [
            {
                "service": asdict(block.ours),
                "bare": asdict(block.theirs),
                "rate_ratio": block.rate_ratio,
                "cpu_ratio": block.cpu_ratio,
            }
            for block in found.blocks
        ],
    }
    path = record.keep(record.dated("service_overhead"), vars(arguments), about, found_all)
    print(f"{path.relative_to(ROOT)} after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
