"""What the faults need of a backend."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import taas
from protos.taas.v1.job_pb2 import TrainingJob
from tests.faults.cells import Cell, Fault
from tests.faults.workers import Process


@dataclass(frozen=True, slots=True)
class Target:
    """Where a fault strikes: a job of the site, its trainers by worker, and one of the workers."""

    job: str
    uid: str
    trainers: Mapping[int, Process]
    victim: int
    agent: Process

    @property
    def trainer(self) -> Process:
        """The victim's."""
        return self.trainers[self.victim]


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault has struck. mend: takes away its cause, once the service has said what is wrong."""

    at: float = field(default_factory=time.time)
    mend: Callable[[], None] | None = None


def signalled(fault: Fault, target: Target) -> bool:
    """Make a fault that is a signal to one process; tell whether it is one."""
    if fault is Fault.TRAINER_KILLED:
        target.trainer.send(signal.SIGKILL)
    elif fault is Fault.TRAINER_FROZEN:
        target.trainer.send(signal.SIGSTOP)
    elif fault is Fault.AGENT_KILLED:
        target.agent.send(signal.SIGKILL)
    elif fault is Fault.AGENT_FROZEN:
        target.agent.send(signal.SIGSTOP)
    else:
        return False
    return True


class Site(Protocol):
    """A running service on one backend, whose parts can be broken."""

    @property
    def backend(self) -> str:
        """Which backend."""

    @property
    def client(self) -> taas.Client:
        """A client whose calls outlast a change of controllers."""

    def ready(self, fault: Fault) -> None:
        """Return when nothing is left of an earlier fault, and this one can be made."""

    def folder(self, job: TrainingJob) -> Path:
        """A job's part of the storage, as this process sees it."""

    def victim(self, cell: Cell, trainers: Mapping[int, Process]) -> int:
        """Which worker a fault strikes."""

    def strike(self, fault: Fault, target: Target) -> Struck:
        """Make a fault, while the trainers stand still."""

    def mended(self) -> None:
        """Repair what a fault has broken that Kubernetes or a user would not."""

    def left(self, job: TrainingJob) -> Sequence[object]:
        """Pods and files that there still are of a job that was deleted."""
