"""How fast the service trains beside what somebody would pick instead, in one run.

    python -m benchmarks.training [--network dense] [--batch 64] [--pairs task/bare script/script-1]

Two workers train LeNet-5 on MNIST, each on a core of its own, with progress and checkpoints as
they are by default. Sides are compared in pairs that take turns of a second. Peers are installed
below build/ when they are first needed. Figures are written after each pair.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.pairs import LONGEST_TURN_S, WHY_SHORT, Comparison, Contender, Plan, compare
from benchmarks.sides import SideFailed
from benchmarks.sides.scratch import ROOT, prepared
from benchmarks.training import networks, peers, table
from benchmarks.training.choices import CHOICES, PAIRS, Ground, Pair, Setting, pair_called
from benchmarks.training.table import Outcome

_RESULTS = ROOT / "benchmarks/results"


def measure(pair: Pair, setting: Setting, plan: Plan) -> Comparison:
    """Start both sides of a pair and let them take their turns. Raises SideFailed."""
    with prepared({"task.py": Path(__file__).with_name("task.py")}) as (source, scratch):

        def contender(name: str, folder: str) -> Contender:
            choice = CHOICES[name]
            ground = Ground(source, scratch / folder, setting)
            return Contender(
                lambda: choice.start(ground),
                choice.workers,
                choice.batch(setting),
                choice.cores_each,
            )

        return compare(contender(pair.ours, "a"), contender(pair.theirs, "b"), plan)


def attempt(pair: Pair, setting: Setting, plan: Plan) -> Outcome:
    """Return what came of a pair, whatever that is: the others can be measured all the same."""
    print(f"{pair.name}", file=sys.stderr)
    try:
        return Outcome(pair, measure(pair, setting, plan))
    except SideFailed as failure:
        print(f"{pair.name}: {failure}", file=sys.stderr)
        return Outcome(pair, None, str(failure))


def _document(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [
        {
            **asdict(outcome),
            "ratio": outcome.ratio and asdict(outcome.ratio),
            "good_enough": outcome.good_enough,
        }
        for outcome in outcomes
    ]


def main(argv: Sequence[str]) -> int:
    """Measure, print the table, and keep the raw figures."""
    options = _options(argv)
    setting = Setting(options.network, options.batch, options.steps_per_execution)
    plan = Plan(options.blocks, options.turns, options.seconds, options.warm_up)
    about = machine.describe() | {"peers": [peers.RAY.requirement, peers.TF_KERAS.requirement]}
    began, now = time.monotonic(), datetime.now(UTC)
    path = _RESULTS / f"training-{options.network}-{now:%Y%m%dT%H%M%SZ}.json"
    outcomes: list[Outcome] = []
    for pair in options.pairs:
        outcomes.append(attempt(pair, setting, plan))
        about["load_average_at_end"] = os.getloadavg()
        document = {
            "time": now.isoformat(),
            "setting": asdict(setting),
            "plan": asdict(plan),
            "machine": about,
            "pairs": _document(outcomes),
        }
        path.write_text(json.dumps(document, indent=1) + "\n")
    print(*table.lines(outcomes, setting), sep="\n")
    load = about["load_average_at_start"][0]
    elsewhere = [o.found.cores_elsewhere for o in outcomes if o.found]
    print(
        f"\n{about['cpu']}, {about['cores']} cores, load average at the start {load:.2f}, "
        f"at most {max(elsewhere, default=0):.2f} cores busy with other things"
    )
    print(f"{path.relative_to(ROOT)} after {time.monotonic() - began:.0f} s")
    return 0


def _pair(name: str) -> Pair:
    try:
        return pair_called(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training")
    parser.add_argument("--network", choices=networks.NAMES, default=networks.NAMES[0])
    parser.add_argument("--batch", type=int, default=64, help="examples a step and core (64)")
    parser.add_argument(
        "--pairs", type=_pair, nargs="+", default=PAIRS, help="OURS/THEIRS; all by default"
    )
    parser.add_argument(
        "--steps-per-execution", type=int, default=1, help="of the sides that use `fit` (1)"
    )
    parser.add_argument("--blocks", type=int, default=6, help="blocks of turns of a pair (6)")
    parser.add_argument("--turns", type=int, default=10, help="turns of each side a block (10)")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of a turn (1)")
    parser.add_argument("--warm-up", type=int, default=200, help="steps left out first (200)")
    options = parser.parse_args(argv)
    if not 0 < options.seconds <= LONGEST_TURN_S:
        parser.error(f"--seconds must be above 0 and at most {LONGEST_TURN_S:g}: {WHY_SHORT}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
