"""Gives each worker of a side its cores, and looks whether it has them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks.sides import TRAINERS, SideFailed

if TYPE_CHECKING:
    from benchmarks.turns import Side

# The service's processes cannot be told a core, and the packages of a peer must not stand before
# ours. Python runs this before anything else in all processes of a side. An agent is forked and
# only then knows which worker it is of; when it forks in turn, both have a look.
HOOK = """\
import os
import sys

def pin_worker():
    if (worker := os.environ.get("TAAS_WORKER_INDEX")) is not None:
        from benchmarks.sides.pinning import pin
        pin(int(worker))

pin_worker()
os.register_at_fork(after_in_parent=pin_worker, after_in_child=pin_worker)
if (peer := os.environ.get("BENCHMARK_PEER")) is not None:
    sys.path.append(peer)
"""


def pin(position: int, cores_each: int = 1) -> None:
    """Keep this process, and all that it starts, on the cores of the worker at a position."""
    places = _place(position, cores_each)
    # Each thread has its own; a process that others have begun may have several already.
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), places)


def check(side: Side, workers: int, cores_each: int = 1) -> None:
    """Raise SideFailed unless each trainer has its cores, and no other."""
    found = sorted(sorted(p.cpu_affinity()) for kind, p in side.processes() if kind == TRAINERS)
    wanted = sorted(_place(position, cores_each) for position in range(workers))
    if found != wanted:
        raise SideFailed(f"the trainers are on cores {found}, not on {wanted}")


def _place(position: int, cores_each: int) -> list[int]:
    return place(sorted(os.sched_getaffinity(0)), position, cores_each)


def place(cores: Sequence[int], position: int, cores_each: int) -> list[int]:
    """Return the cores of a worker: its own as long as there are enough.

    >>> place([0, 1, 2, 3], 1, 2)
    [2, 3]
    >>> place([0, 1], 2, 1)
    [0]
    """
    first = position * cores_each
    return sorted({cores[number % len(cores)] for number in range(first, first + cores_each)})
