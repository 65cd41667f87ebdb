"""Programs that are started here and tell their steps on the standard output, as a side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.addresses import free_addresses
from benchmarks.sides import TRAINERS, SideFailed
from benchmarks.sides.scratch import ROOT
from benchmarks.sides.stamps import Stamps

_LOG_END = 3000


class Programs:
    """One process for each command; the first one's words are heard.

    They are the trainers, unless `launcher` names what they are: then those that say so are.
    """

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        launcher: str = "",
    ) -> None:
        """Start them; each command is a module of this project with its arguments."""
        self._log, self._launcher = log, launcher
        self._stamps = Stamps()
        # What a program saves by itself, it does not tell.
        self.checkpoint_times: Sequence[float] = ()
        self._told: set[int] = set()
        with log.open("ab") as file:
            self._started = [
                subprocess.Popen(
                    [sys.executable, "-m", *command],
                    cwd=ROOT,
                    env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **(environment or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=file if number else subprocess.PIPE,
                    stderr=file,
                    text=True,
                )
                for number, command in enumerate(commands)
            ]
        self._roots = [psutil.Process(process.pid) for process in self._started]
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        lines = self._started[0].stdout
        assert lines is not None
        with lines:
            for line in lines:
                told = json.loads(line)
                if "trainer" in told:
                    self._told.add(told["trainer"])
                else:
                    self._stamps.add(told["time"], told["step"])
        self._stamps.end(self._log.read_text(errors="replace")[-_LOG_END:])

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """All of them, and what they have started if they are launchers."""
        if not self._launcher:
            return [(TRAINERS, process) for process in self._roots]
        found = list(self._roots)
        for process in self._roots:
            with suppress(psutil.Error):
                found += process.children(recursive=True)
        return [(TRAINERS if p.pid in self._told else self._launcher, p) for p in found]

    def stamps(self) -> Sequence[tuple[float, float]]:
        """When the chief said how many steps were done."""
        return self._stamps.all()

    def wait_for(self, step: int) -> None:
        """Wait until so many steps are done."""
        self._stamps.wait_for(step)

    def check(self) -> None:
        """Raise SideFailed unless all of them still run."""
        if any(process.poll() is not None for process in self._started):
            raise SideFailed(f"it ended: {self._log.read_text(errors='replace')[-_LOG_END:]}")

    def close(self) -> None:
        """End them and what they have started."""
        for _, process in self.processes():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        for started in self._started:
            started.wait()


def bare_loop(
    source: Path,
    log: Path,
    *,
    workers: int,
    parameters: Mapping[str, str],
    steps_a_call: int,
    mended: bool = False,
) -> Programs:
    """Start the workers of `bare_loop`."""
    cluster = ",".join(free_addresses(workers))
    options = ["--steps-a-call", str(steps_a_call)]
    options += ["--mended"] if mended else []
    options += [text for key, value in parameters.items() for text in ("-p", f"{key}={value}")]
    return Programs(
        [
            ["benchmarks.bare_loop", str(source), str(position), cluster, *options]
            for position in range(workers)
        ],
        log,
    )
