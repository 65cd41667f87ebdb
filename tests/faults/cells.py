"""The fault matrix as values: faults, moments, and what each combination must come to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

LOCAL, KUBERNETES = "local", "kubernetes"
BACKENDS = (LOCAL, KUBERNETES)


class Moment(Enum):
    """When a fault strikes."""

    STARTING = "starting"
    BEFORE_CHECKPOINT = "before the first checkpoint"
    MID_STEP = "mid-step"
    SAVING = "during a save"
    RESTORING = "during restore"
    FINISHING = "finishing"


class Fault(Enum):
    """What happens."""

    TRAINER_KILLED = "trainer killed"
    TRAINER_OUT_OF_MEMORY = "trainer out of memory"
    TRAINER_FROZEN = "trainer frozen"
    AGENT_KILLED = "agent killed"
    AGENT_FROZEN = "agent frozen"
    POD_DELETED = "pod force-deleted"
    POD_EVICTED = "pod evicted"
    NODE_LOST = "node lost"
    CUT_OFF = "worker cut off"
    CONTROLLER_KILLED = "controller killed"
    DISK_FULL = "disk full"


# How a fault is made where there is no Kubernetes.
LOCALLY = {
    Fault.POD_DELETED: "all processes of the worker killed",
    Fault.POD_EVICTED: "the worker asked to leave (SIGTERM)",
    Fault.NODE_LOST: "everything killed, the service started again",
}
_KILLED = {"TrainerKilled"}
_LOST = {"PodLost"}
# What a restart may be put down to; none of these faults is the program's.
_REASONS = {
    Fault.TRAINER_KILLED: _KILLED,
    Fault.TRAINER_OUT_OF_MEMORY: {"OutOfMemory"},
    Fault.TRAINER_FROZEN: {"TrainerFrozen"},
    Fault.AGENT_KILLED: _LOST,
    Fault.AGENT_FROZEN: {"WorkerLost"},
    Fault.POD_DELETED: _LOST,
    Fault.POD_EVICTED: {"PodLost", "Planned"},
    # Whichever is seen first: the silence, or that its pod is gone. A group that has gone on with
    # fewer may grow again.
    Fault.NODE_LOST: {"WorkerLost", "PodLost", "Planned"},
    Fault.CUT_OFF: {"WorkerLost"},
    Fault.CONTROLLER_KILLED: set(),
    Fault.DISK_FULL: {"StorageFailed"},
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination."""

    fault: Fault
    moment: Moment
    backend: str

    @property
    def name(self) -> str:
        """A name for its job."""
        return f"{self.fault.name}-{self.moment.name}".lower().replace("_", "-")

    @property
    def key(self) -> str:
        """A name among all results."""
        return f"{self.backend}/{self.name}"

    @property
    def victim(self) -> int:
        """The worker it strikes: the one whose work the moment is, or who asks for memory."""
        by_chief = self.moment in (Moment.SAVING, Moment.FINISHING)
        return 0 if by_chief or self.fault is Fault.TRAINER_OUT_OF_MEMORY else 1

    @property
    def reasons(self) -> set[str]:
        """The reasons that its restarts may have."""
        return _REASONS[self.fault]

    @property
    def restarts(self) -> bool:
        """Whether the group must start again. On a full disk it depends on the moment, and beside
        an agent that is frozen training goes on, and may be over before its silence counts."""
        return self.fault not in (Fault.CONTROLLER_KILLED, Fault.DISK_FULL, Fault.AGENT_FROZEN)

    @property
    def elastic(self) -> bool:
        """Whether the group goes on with the workers that are left, until the lost one is back."""
        return self.fault is Fault.NODE_LOST and self.backend == KUBERNETES


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a cell. wrong: what is not as promised, "" if all is. seconds: from the fault
    to the first step that had not been made before it (of a full disk: from when there was room
    again; when finishing, or where no step was left to make: to the end of the job); None where
    nobody had to start again. recomputed: steps that were made twice."""

    wrong: str
    restarts: dict[str, int]
    recomputed: int
    seconds: float | None

    @property
    def right(self) -> bool:
        """Whether all promises were kept."""
        return not self.wrong


def cells(backend: str) -> list[Cell]:
    """Every combination that can happen on a backend."""
    return [
        Cell(fault, moment, backend)
        for fault in Fault
        for moment in Moment
        # Workers of one machine have no network between them that could fail.
        if (fault, backend) != (Fault.CUT_OFF, LOCAL)
    ]
