"""What somebody could pick to train with, by name, and how each is started as a side."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.addresses import free_addresses
from benchmarks.sides.programs import Programs, bare_loop
from benchmarks.sides.scratch import DEMO
from benchmarks.sides.service import Service
from benchmarks.training import peers
from benchmarks.turns import Side

# More than any run of this makes: all sides are ended when all is measured.
_ENDLESS_STEPS = 10_000_000
_ENDLESS_EPOCHS = 10_000
# Less than a second on a slow core. What a call costs beside its steps is little by then.
_STEPS_A_CALL = {"lenet5": 20, "dense": 8}


@dataclass(frozen=True, slots=True)
class Setting:
    """What all sides train."""

    network: str
    # Examples of each core in one step.
    batch: int
    # Of the sides that train with Keras' `fit`.
    steps_per_execution: int


@dataclass(frozen=True, slots=True)
class Ground:
    """Where one side is started."""

    # The folder of the task, with MNIST in it.
    source: Path
    # A folder of the side's own.
    scratch: Path
    setting: Setting


@dataclass(frozen=True, slots=True)
class Choice:
    """Something to train with. All that `begin` raises is a SideFailed."""

    title: str
    begin: Callable[[Ground, Choice], Side]
    workers: int = 2
    cores_each: int = 1

    def batch(self, setting: Setting) -> int:
        """Return how many examples one of its steps takes."""
        return setting.batch * self.workers * self.cores_each

    def start(self, ground: Ground) -> Side:
        """Start it."""
        ground.scratch.mkdir()
        return self.begin(ground, self)


def _parameters(ground: Ground, choice: Choice) -> dict[str, str]:
    return {
        "network": ground.setting.network,
        "batch": str(choice.batch(ground.setting)),
        "steps": str(_ENDLESS_STEPS),
    }


def _arguments(ground: Ground, choice: Choice) -> list[str]:
    """Return those of `script`."""
    setting = ground.setting
    return [
        *("--data", str(DEMO / "data")),
        *("--network", setting.network),
        *("--epochs", str(_ENDLESS_EPOCHS)),
        *("--batch-size", str(choice.batch(setting))),
        *("--steps-per-execution", str(setting.steps_per_execution)),
    ]


def _task(ground: Ground, choice: Choice) -> Side:
    submission = {"parameters": _parameters(ground, choice)}
    home = ground.scratch / "home"
    return Service(ground.source, home, workers=choice.workers, submission=submission)


def _script(ground: Ground, choice: Choice) -> Side:
    submission = {
        "script": "script.py",
        "arguments": _arguments(ground, choice),
        "distribute": choice.workers > 1,
    }
    script = Path(__file__).with_name("script.py")
    return Service(script, ground.scratch / "home", workers=choice.workers, submission=submission)


def _fit(ground: Ground, choice: Choice, *, keras: str) -> Side:
    cluster = free_addresses(choice.workers) if choice.workers > 1 else []
    options = [*_arguments(ground, choice), "--keras", keras, "--cores", str(choice.cores_each)]
    options += ["--cluster", ",".join(cluster)] if cluster else []
    environment = {}
    if keras == "tf_keras":
        environment["BENCHMARK_PEER"] = str(peers.provide(peers.TF_KERAS))
    commands = [
        ["benchmarks.training.alone", *options, "--position", str(position)]
        for position in range(choice.workers)
    ]
    return Programs(commands, ground.scratch / "log", environment=environment)


def _bare(ground: Ground, choice: Choice) -> Side:
    return bare_loop(
        ground.source,
        ground.scratch / "log",
        workers=choice.workers,
        parameters=_parameters(ground, choice),
        steps_a_call=_STEPS_A_CALL[ground.setting.network],
    )


def _ray(ground: Ground, choice: Choice) -> Side:
    command = ["benchmarks.training.ray_loop", str(ground.source), str(ground.scratch)]
    command += ["--workers", str(choice.workers)]
    command += ["--steps-a-call", str(_STEPS_A_CALL[ground.setting.network])]
    for key, value in _parameters(ground, choice).items():
        command += ["-p", f"{key}={value}"]
    environment = {
        "BENCHMARK_PEER": str(peers.provide(peers.RAY)),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    log = ground.scratch / "log"
    return Programs([command], log, environment=environment, launcher="ray")


CHOICES = {
    "task": Choice("a task, 2 workers", _task),
    "task-1": Choice("a task, 1 worker", _task, workers=1),
    "script": Choice("a Keras script, 2 workers", _script),
    "script-1": Choice("a Keras script, 1 worker", _script, workers=1),
    "bare": Choice("bare multi-step loop, 2 processes", _bare),
    "tf_keras": Choice("tf_keras `fit`, 2 processes", functools.partial(_fit, keras="tf_keras")),
    "keras-1": Choice(
        "Keras 3 `fit`, 1 process on 1 core", functools.partial(_fit, keras="keras"), workers=1
    ),
    "keras-2": Choice(
        "Keras 3 `fit`, 1 process on 2 cores",
        functools.partial(_fit, keras="keras"),
        workers=1,
        cores_each=2,
    ),
    "ray": Choice("Ray Train, bare loop, 2 workers", _ray),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two choices that are compared. `bar` is the least ratio of rates that is good enough."""

    ours: str
    theirs: str
    bar: float | None = None

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return f"{self.ours}/{self.theirs}"


PAIRS: Sequence[Pair] = (
    Pair("task", "bare", bar=0.97),
    Pair("task", "tf_keras", bar=2.0),
    Pair("task", "ray", bar=1.0),
    Pair("task", "keras-1"),
    Pair("task", "keras-2"),
    Pair("task", "task-1"),
    Pair("task-1", "keras-1"),
    Pair("script", "script-1"),
    Pair("script", "tf_keras"),
    Pair("task", "script"),
)


def pair_called(name: str) -> Pair:
    """Return the pair of that name, also one that is not measured by default. Raises ValueError.

    >>> pair_called("task/bare").bar
    0.97
    """
    ours, _, theirs = name.partition("/")
    for choice in (ours, theirs):
        if choice not in CHOICES:
            raise ValueError(f"{choice!r} is none of {', '.join(CHOICES)}")
    return next((pair for pair in PAIRS if pair.name == name), Pair(ours, theirs))
