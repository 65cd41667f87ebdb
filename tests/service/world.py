"""A real local service with its processes in view, for the fault tests."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import taas
from trainer import contract

TASK = Path(__file__).parent / "tasks" / "digits"
# Only keeps a broken test from hanging.
BOUND_S = 120.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until the condition gives something true, and return it."""
    end = time.monotonic() + BOUND_S
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {BOUND_S} s for {what}"
        time.sleep(0.02)
    return found


@dataclass
class Service:
    """A controller process on a state folder of its own, and what it started."""

    home: Path
    # What runs the controller's command, for a world of its own.
    wrapper: tuple[str, ...] = ()
    controller: subprocess.Popen[bytes] | None = None
    clients: list[taas.Client] = field(default_factory=list)

    @property
    def target(self) -> str:
        """The address of the service."""
        return f"unix:{self.home}/taas.sock"

    def start(self) -> None:
        """Start the controller."""
        command = [*self.wrapper, sys.executable, "-m", "controller", "--home", str(self.home)]
        with (self.home / "controller.log").open("ab") as log:
            self.controller = subprocess.Popen(
                [*command, "--socket", f"{self.home}/taas.sock"],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill the controller with -9."""
        assert self.controller is not None
        self.controller.kill()
        self.controller.wait()

    def client(self) -> taas.Client:
        """Return a client that is closed with the service."""
        client = taas.Client(self.target)
        self.clients.append(client)
        return client

    def processes(self, job: str = "", index: int | None = None) -> Iterator[psutil.Process]:
        """Yield all processes in this service's pods, or in those of a job or of a worker."""
        wanted = {contract.ENV_STORAGE: f"{self.home}/storage"}
        if job:
            wanted[contract.ENV_JOB] = job
        if index is not None:
            wanted[contract.ENV_WORKER_INDEX] = str(index)
        for process in psutil.process_iter():
            try:
                if wanted.items() <= process.environ().items():
                    yield process
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue

    def agent(self, job: str, index: int) -> psutil.Process | None:
        """Return the agent of a worker, if it lives."""
        return self._of_worker(job, index, lambda p: p.name() == "taas-agent")

    def trainer(self, job: str, index: int) -> psutil.Process | None:
        """Return the trainer of a worker, if it lives."""
        return self._of_worker(job, index, lambda p: p.name() == "taas-trainer")

    def _of_worker(
        self, job: str, index: int, wanted: Callable[[psutil.Process], bool]
    ) -> psutil.Process | None:
        for process in self.processes(job, index):
            try:
                if wanted(process):
                    return process
            except psutil.Error:
                continue
        return None

    def close(self) -> None:
        """End everything, by force, and remove the folder."""
        for client in self.clients:
            client.close()
        if self.controller is not None and self.controller.poll() is None:
            self.kill()
        for process in list(self.processes()):
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(self.home)


@dataclass
class Story:
    """What a watcher was told about a job, event by event."""

    events: list[Any] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """Return how many records of a kind were told so far."""
        return sum(e.record.HasField(kind) for e in self.events)

    @property
    def steps(self) -> dict[int, float]:
        """The loss by step, the newest record of a step counting."""
        return {
            e.record.progress.step: e.record.progress.loss
            for e in self.events
            if e.record.HasField("progress")
        }

    @property
    def test(self) -> dict[str, float]:
        """The metrics over the test set, exactly as reported."""
        found = [
            dict(e.record.evaluation.metrics)
            for e in self.events
            if e.record.HasField("evaluation") and e.record.evaluation.dataset == "test"
        ]
        assert found, "the test set was not evaluated"
        return found[-1]

    def check(self) -> None:
        """Assert that no record was missed or told twice."""
        for generation in {e.record.generation for e in self.events if e.HasField("record")}:
            indexes = [
                e.record.index
                for e in self.events
                if e.HasField("record") and e.record.generation == generation
            ]
            assert indexes == list(range(len(indexes))), f"generation {generation}: {indexes}"
        phases = [e.state for e in self.events if e.HasField("state")]
        for earlier, later in itertools.pairwise(phases):
            assert getattr(later, "from") == earlier.to


def following(client: taas.Client, name: str, story: Story) -> threading.Thread:
    """Follow a job in the background to its end, over restarts of the controller."""

    def follow() -> None:
        for event in client.watch(name, reconnect_for_s=BOUND_S):
            story.events.append(event)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread
