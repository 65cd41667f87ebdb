"""A job of the service, which has a home of its own, as a side of a comparison."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

import taas
from benchmarks.sides import AGENTS, TRAINERS, SideFailed
from benchmarks.sides.stamps import Stamps
from protos.taas.v1.job_pb2 import PHASE_RUNNING
from taas.service import LocalService

_JOB = "bench"
# By name of the process; the others are agents and what they keep ready.
_KINDS = {"taas-trainer": TRAINERS, "taas-nursery": "nursery"}


class Service:
    """A training through a service of its own, watched by a client."""

    def __init__(
        self, source: Path, home: Path, *, workers: int, submission: Mapping[str, Any]
    ) -> None:
        """Start the service in the folder `home`, and submit what is in `source`."""
        self._home = home
        self._service = LocalService(home)
        self._service.start()
        self._client = taas.Client(self._service.target)
        self._controller = psutil.Process(self._client.service_info().pid)
        self._stamps = Stamps()
        self._checkpoint_times: list[float] = []
        self._client.submit(source, name=_JOB, workers=workers, **submission)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            for event in self._client.watch(_JOB):
                record = event.record
                at = record.time.seconds + record.time.nanos / 1e9
                if record.HasField("progress"):
                    self._stamps.add(at, record.progress.step)
                elif record.HasField("checkpoint"):
                    self._checkpoint_times.append(at)
            self._stamps.end(f"the job did: {self._client.get(_JOB).status.message}")
        except taas.TaasError as error:
            self._stamps.end(str(error))

    @property
    def checkpoint_times(self) -> Sequence[float]:
        """When the chief said that it has saved one."""
        return self._checkpoint_times

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """The controller, and below it what it forks agents from, agents, warm processes and
        trainers."""
        return [("controller", self._controller), *self._workers()]

    def _workers(self) -> Iterator[tuple[str, psutil.Process]]:
        for process in self._controller.children(recursive=True):
            with suppress(psutil.Error):
                yield _KINDS.get(process.name(), AGENTS), process

    def stamps(self) -> Sequence[tuple[float, float]]:
        """When the chief said how many steps were done."""
        return self._stamps.all()

    def wait_for(self, step: int) -> None:
        """Wait until so many steps are done."""
        self._stamps.wait_for(step)

    def check(self) -> None:
        """Raise SideFailed unless the job trained through without a restart."""
        status = self._client.get(_JOB).status
        if status.phase != PHASE_RUNNING or status.restarts:
            raise SideFailed(
                f"the job was disturbed: {status.restarts} restarts, "
                f"{status.last_failure.message or status.message}"
            )

    def close(self) -> None:
        """End it all; nobody asks for its model."""
        self._client.delete(_JOB)
        self._client.close()
        self._service.stop()
        shutil.rmtree(self._home, ignore_errors=True)
