"""Faults on one machine, by signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import taas
from protos.taas.v1.job_pb2 import TrainingJob
from tests.faults import memory, workers
from tests.faults.cells import LOCAL, Cell, Fault
from tests.faults.site import Struck, Target, signalled
from tests.faults.workers import Process
from tests.service.small_disk import disk, fill
from tests.service.world import Service
from trainer.storage import JobPaths


@dataclass
class LocalSite:
    """A local service. small: its storage is a disk of its own, which can be filled."""

    service: Service
    small: bool = False
    backend: str = LOCAL
    _group: Path | None = None

    def __post_init__(self) -> None:
        """Connect."""
        self.client = taas.Client(self.service.target, retry_for_s=workers.BOUND_S)
        self.service.clients.append(self.client)

    def ready(self, fault: Fault) -> None:
        """Nothing of an earlier fault lasts here."""
        assert self.small or fault is not Fault.DISK_FULL, "this needs a disk of its own"

    def folder(self, job: TrainingJob) -> Path:
        """A job's part of the storage."""
        root = disk(self.service) if self.small else self.service.home / "storage"
        namespace, name = job.name.split("/")[1::2]
        return JobPaths(root, namespace, name, job.uid).folder

    def victim(self, cell: Cell, trainers: Mapping[int, Process]) -> int:
        """The worker whose work the moment is."""
        return cell.victim

    def strike(self, fault: Fault, target: Target) -> Struck:
        """Make a fault."""
        struck = Struck()
        if signalled(fault, target):
            return struck
        if fault is Fault.TRAINER_OUT_OF_MEMORY:
            trainer, name = target.trainer, f"taas-faults-{os.getpid()}"
            # The agent as well: it is its own group's count that it looks at.
            self._group = memory.group_for(name, [target.agent, trainer])
            memory.starve(trainer, self._group, target.trainers.values())
            return Struck()
        if fault is Fault.POD_DELETED:
            for process in workers.of_job(target.uid):
                if process.index == target.victim:
                    process.send(signal.SIGKILL)
        elif fault is Fault.POD_EVICTED:
            target.agent.send(signal.SIGTERM)
        elif fault is Fault.NODE_LOST:
            self.service.kill()
            for process in workers.of_job(target.uid):
                process.send(signal.SIGKILL)
            self.service.start()
        elif fault is Fault.CONTROLLER_KILLED:
            self.service.kill()
            self.service.start()
        elif fault is Fault.DISK_FULL:
            return Struck(mend=fill(disk(self.service)).unlink)
        return struck

    def mended(self) -> None:
        """Remove what was made for a fault; the job's processes leave."""
        if self._group is not None:
            memory.remove(self._group)
            self._group = None

    def left(self, job: TrainingJob) -> list[Path]:
        """Folders of pods, and files of the job."""
        return [*(self.service.home / "pods").iterdir(), *self.folder(job).parent.glob("*")]
