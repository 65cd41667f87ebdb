"""What a checkpoint costs a training: how long the steps wait for it, and how fast it is written.

    python -m benchmarks.checkpoints [--megabytes 10 100 1000] [--repeats 5] [--folder DIR]

One process updates variables of that size in every step, as an optimizer does, and saves them by
the trainer's own Checkpoints:

- wait: what the training stands still for a save that is written beside it: the call that takes
  the snapshot, and what the next step, which must leave the snapshot's memory alone, takes longer
  than others.
- slowed: what all steps until the commit take longer than others; the writer needs a processor.
- synchronous: from the same call to the commit, while the training waits.
- disk: the same bytes written to one file and flushed, with nothing else done.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import machine, record
from trainer.checkpoints import Checkpoints
from trainer.contract import Checkpointing
from trainer.storage import JobPaths

# A variable of this many bytes, or what is left: as the layers of a network of some size.
_VARIABLE = 4_000_000
# Steps that say how long one takes.
_STEPS = 9


@dataclass
class Training:
    """Variables of a size, and a step that changes all of them."""

    folder: Path
    megabytes: int
    step: int = 0
    saved: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Make the variables and compile the step."""
        count = max(1, round(self.megabytes * 1e6 / _VARIABLE))
        each = round(self.megabytes * 1e6 / count / 4)
        chance = np.random.default_rng(0)
        self.variables = {
            f"model/{i:04d}": tf.Variable(chance.standard_normal(each).astype("float32"))
            for i in range(count)
        }
        self._update = tf.function(self._decay)
        self.checkpoints = Checkpoints(
            JobPaths(self.folder, "default", "bench", "uid"),
            generation=1,
            policy=Checkpointing(every_seconds=3600, keep_last=1),
            on_saved=lambda manifest: self.saved.set(),
            on_failed=_give_up,
        )
        self.checkpoints.fence(0)
        self.advance()

    def _decay(self) -> Any:
        for variable in self.variables.values():
            variable.assign(variable * 0.999 + 0.001)
        return tf.reduce_sum([variable[0] for variable in self.variables.values()])

    def advance(self) -> float:
        """Make a step; return its seconds."""
        self.step += 1
        return timed(lambda: self._update().numpy())

    def save(self) -> float:
        """Have the variables saved; return the seconds that the call takes."""
        self.saved.clear()
        return timed(lambda: self.checkpoints.save(self.step, self.variables, {}))


def _give_up(why: str) -> None:
    raise SystemExit(why)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def once(training: Training) -> dict[str, float]:
    """Seconds of each kind, one after the other."""
    usual = statistics.median(training.advance() for _ in range(_STEPS))
    call = training.save()
    during = [*_until_saved(training)]
    training.checkpoints.finish()
    training.advance()
    synchronous = training.save() + timed(training.checkpoints.finish)
    return {
        "step": usual,
        "wait": call + max(0.0, during[0] - usual),
        "slowed": call + sum(during) - usual * len(during),
        "synchronous": synchronous,
        "disk": _disk(training),
    }


def _until_saved(training: Training) -> Iterator[float]:
    yield training.advance()
    while not training.saved.is_set():
        yield training.advance()


def _disk(training: Training) -> float:
    content = os.urandom(1_000_000)

    def write() -> None:
        with (training.folder / "plain").open("wb", buffering=0) as file:
            for _ in range(training.megabytes):
                file.write(content)
            os.fsync(file.fileno())

    return timed(write)


def summary(megabytes: int, runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians, and the ratios that the bars are about."""
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    ratios = [run["wait"] / run["synchronous"] for run in runs]
    return {
        "megabytes": megabytes,
        **medians,
        "wait_of_synchronous": statistics.median(ratios),
        "wait_of_synchronous_most": max(ratios),
        "megabytes_per_second": megabytes / medians["synchronous"],
        "disk_megabytes_per_second": megabytes / medians["disk"],
    }


def shown(row: dict[str, float]) -> str:
    """A row of the table."""
    return (
        f"| {row['megabytes']:,.0f} | {1000 * row['step']:.1f} | {1000 * row['wait']:.1f} "
        f"| {1000 * row['slowed']:.0f} | {1000 * row['synchronous']:.0f} "
        f"| {100 * row['wait_of_synchronous']:.1f} % ({100 * row['wait_of_synchronous_most']:.1f}) "
        f"| {row['megabytes_per_second']:.0f} | {row['disk_megabytes_per_second']:.0f} |"
    )


def main() -> int:
    """Measure, print the table and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoints")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--repeats", type=int, default=5, help="saves of each kind (5)")
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    arguments = parser.parse_args()
    about = machine.describe()
    runs: dict[int, list[dict[str, float]]] = {}
    print(
        "| MB | step, ms | wait, ms | slowed, ms | synchronous, ms | wait / synchronous (most) ",
        end="",
    )
    print("| MB/s | disk, MB/s |\n|" + " --- |" * 8)
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory(prefix="taas-bench-", dir=arguments.folder) as folder:
            training = Training(Path(folder), megabytes)
            once(training)  # the first save makes threads and allocates
            runs[megabytes] = [once(training) for _ in range(arguments.repeats)]
        print(shown(summary(megabytes, runs[megabytes])), flush=True)
    rows = [summary(megabytes, found) for megabytes, found in runs.items()]
    record.keep(record.dated("checkpoints"), vars(arguments), about, {"rows": rows, "runs": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
