"""Half an hour of faults at random on one training of three workers.

    python -m benchmarks.chaos [local|kubernetes] [--minutes 30] [--seed 1] [--steps 60000]

First the same training undisturbed; the two must end with the same bits. The Kubernetes of the
tests must be up: python -m tests.cluster up.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine, record
from benchmarks.sites import sites
from tests.faults.cells import BACKENDS, KUBERNETES
from tests.faults.chaos import Outcome, Plan, chaos, undisturbed


def for_minutes(minutes: float) -> Callable[[int], bool]:
    """Return what says that faults go on until so many minutes after it was first asked."""
    until: list[float] = []

    def more(number: int) -> bool:
        if not until:
            until.append(time.monotonic() + 60 * minutes)
        print(f"\r{number} faults ", end="", flush=True)
        return time.monotonic() < until[0]

    return more


def shown(outcome: Outcome) -> str:
    """What it came to, in lines."""
    struck = Counter(fault for fault, _ in outcome.struck)
    verdict = "; ".join(outcome.wrong) or "as promised: the same bits, nothing left over"
    return "\n".join(
        [
            f"{len(outcome.struck)} faults in {outcome.seconds / 60:.1f} minutes: {verdict}",
            f"faults: {', '.join(f'{name} {n}' for name, n in struck.most_common())}",
            f"restarts: {', '.join(f'{name} {n}' for name, n in outcome.restarts.items())}",
            f"{outcome.steps} steps, goodput {outcome.goodput:.2f}",
        ]
    )


def main() -> int:
    """Run it, print what it came to and keep it; fails unless all was as promised."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("backend", choices=BACKENDS, nargs="?", default=KUBERNETES)
    parser.add_argument("--minutes", type=float, default=30, help="minutes of faults (30)")
    parser.add_argument("--seed", type=int, default=1, help="which faults (1)")
    parser.add_argument("--steps", type=int, default=60_000, help="steps of the training (60,000)")
    arguments = parser.parse_args()
    about = machine.describe()
    with (
        tempfile.TemporaryDirectory(prefix="taas-chaos-") as folder,
        sites(arguments.backend, Path(folder)) as places,
    ):
        digests = undisturbed(places[False], arguments.steps)
        plan = Plan(arguments.seed, arguments.steps, for_minutes(arguments.minutes))
        outcome = chaos(places[False], plan, digests)
    print(f"\r{shown(outcome)}")
    record.keep(f"chaos-{arguments.backend}", vars(arguments), about, asdict(outcome))
    return int(bool(outcome.wrong))


if __name__ == "__main__":
    sys.exit(main())
