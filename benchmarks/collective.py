"""What adding up gradients costs: `python -m benchmarks.collective [--repeats N]`.

Compares, in the same processes and call by call, the service's ring, TensorFlow's own, and plain
sockets that move the same bytes and add nothing. Then trains two networks with one worker and with
two, over either, and the same with PyTorch's DistributedDataParallel on gloo. Every worker has one
core. docs/decisions/013-collective.md has the reasons.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from benchmarks import debian_torch, machine, record
from benchmarks.addresses import free_addresses
from benchmarks.sides import SideFailed

_SIZES = (4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 13_200_000, 100_000_000)
# What trains with two workers: its title, and what trains with one.
_TRAINED = {
    "ring": ("the ring", "alone"),
    "tensorflow": ("TensorFlow's ring", "alone"),
    "ddp": ("PyTorch's DDP, gloo", "ddp alone"),
}
_SIDES = ("ring", "tensorflow", "sockets")
# Of one measurement; much longer than what starts and ends it.
_BURST_S = 0.5
_NETWORKS = {"LeNet-5, batch 256": 256, "dense 3.3 M, batch 64": 64}


def main(argv: Sequence[str]) -> int:
    """Measure, print the tables and keep the numbers."""
    parser = argparse.ArgumentParser(prog="benchmarks.collective", description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--workers", type=int, nargs="*", default=(2, 3), help="of the reductions")
    parser.add_argument("--training", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args(argv)
    about = machine.describe()
    found = {
        "training": _training(options.repeats) if options.training else [],
        "reductions": [
            row
            for workers in options.workers
            for row in _reductions(workers, _SIZES, options.repeats)
        ],
    }
    _print(found)
    record.keep(record.dated("collective"), vars(options), about, found)
    return 0


@dataclass(frozen=True, slots=True)
class _Program:
    """What a worker is: a module, and under which Python it runs."""

    module: str
    python: str
    environment: Mapping[str, str]


_OURS = _Program(
    "benchmarks.collective_member", sys.executable, os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
)


class _Group:
    """Worker processes that measure what they are told to, all of them at once."""

    def __init__(self, members: int, program: _Program = _OURS) -> None:
        cluster = ",".join(free_addresses(members))
        self._processes = [
            subprocess.Popen(
                [program.python, "-m", program.module, str(i), cluster],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=program.environment,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for i in range(members)
        ]

    def __enter__(self) -> _Group:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            assert process.stdin
            process.stdin.close()
        for process in self._processes:
            process.wait()

    def call(self, *words: object) -> float:
        """Return the seconds that one round took the chief."""
        for process in self._processes:
            assert process.stdin
            process.stdin.write(json.dumps(words) + "\n")
            process.stdin.flush()
        answers = []
        for process in self._processes:
            assert process.stdout
            answers.append(json.loads(process.stdout.readline()))
        return float(answers[0])


def _rounds(group: _Group, *what: object) -> int:
    """Return how many rounds make a burst."""
    group.call(*what, 2)
    return max(2, min(2000, int(_BURST_S / group.call(*what, 2))))


def _reductions(members: int, sizes: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    rows = []
    with _Group(members) as group:
        for size in sizes:
            counts = {side: _rounds(group, "reduce", side, size) for side in _SIDES}
            took: dict[str, list[float]] = {side: [] for side in _SIDES}
            for _ in range(repeats):
                for side in _SIDES:
                    took[side].append(group.call("reduce", side, size, counts[side]))
            rows.append({"workers": members, "bytes": size, "seconds": took})
    return rows


def _training(repeats: int) -> list[dict[str, Any]]:
    rows = []
    with ExitStack() as stack:
        alone, both = (stack.enter_context(_Group(members)) for members in (1, 2))
        sides = {
            "alone": (alone, "ring"),
            "ring": (both, "ring"),
            "tensorflow": (both, "tensorflow"),
        }
        try:
            ddp = _Program("benchmarks.ddp_member", debian_torch.PYTHON, debian_torch.provide())
            for side, members in (("ddp alone", 1), ("ddp", 2)):
                sides[side] = (stack.enter_context(_Group(members, ddp)), side)
        except SideFailed as reason:
            print(f"without PyTorch: {reason}", file=sys.stderr)
        for name in _NETWORKS:
            counts = {
                key: _rounds(group, "train", side, name) for key, (group, side) in sides.items()
            }
            took: dict[str, list[float]] = {key: [] for key in sides}
            for _ in range(repeats):
                for key, (group, side) in sides.items():
                    took[key].append(group.call("train", side, name, counts[key]))
            rows.append({"network": name, "batch": _NETWORKS[name], "seconds": took})
    return rows


def _spread(seconds: Sequence[float]) -> str:
    low, _, high = quantiles(seconds, n=4)
    return f"{median(seconds) * 1e3:.2f} ({low * 1e3:.2f} to {high * 1e3:.2f})"


def _print(found: dict[str, Any]) -> None:
    print("| workers | bytes | ring, ms | TensorFlow's, ms | sockets, ms | TensorFlow's / ring |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in found["reductions"]:
        took = row["seconds"]
        ratio = median(t / r for t, r in zip(took["tensorflow"], took["ring"], strict=True))
        cells = [_spread(took[side]) for side in _SIDES]
        print(f"| {row['workers']} | {row['bytes']:,} | {' | '.join(cells)} | {ratio:.1f} |")
    print("\n| network | gradients over | one worker, ms a step | two workers | speed-up |")
    print("| --- | --- | --- | --- | --- |")
    for row in found["training"]:
        took = row["seconds"]
        for side, (title, alone) in _TRAINED.items():
            if side in took:
                pairs = zip(took[alone], took[side], strict=True)
                gain = median(2 * one / two for one, two in pairs)
                cells = [row["network"], title, _spread(took[alone]), _spread(took[side])]
                print(f"| {' | '.join(cells)} | {gain:.2f} |")


if __name__ == "__main__":
    began = time.monotonic()
    code = main(sys.argv[1:])
    print(f"\n{time.monotonic() - began:.0f} s")
    sys.exit(code)
