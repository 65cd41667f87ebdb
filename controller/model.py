"""The domain: jobs, their status, and what is seen of pods and workers. Frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from controller.ledger import Ledger, RestartCost

Pairs = tuple[tuple[str, str], ...]  # a mapping, sorted by key
Metrics = tuple[tuple[str, float], ...]  # a mapping, sorted by key

# The claim of jobs that name none.
DEFAULT_CLAIM = "taas-storage"
# The extended resource of jobs that ask for GPUs and name none.
DEFAULT_GPU = "nvidia.com/gpu"
# Index of the worker that looks at checkpoints beside the training; no group is so large.
EVALUATOR = 9999


@dataclass(frozen=True, slots=True, order=True)
class JobKey:
    """What names a job."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Phase(Enum):
    """Where a job stands. Values are the names of the wire enum without its prefix."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """True when the job never changes again."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)

    @property
    def word(self) -> str:
        """The phase as Kubernetes spells such words: "Running"."""
        return self.value.capitalize()


class WorkerState(Enum):
    """Where a worker stands. Values are the names of the wire enum without its prefix."""

    PENDING = "PENDING"
    READY = "READY"
    RUNNING = "RUNNING"
    DONE = "DONE"
    LOST = "LOST"


class Stage(Enum):
    """What a trainer is doing. Values are the names of the wire enum without its prefix."""

    STARTING = "STARTING"
    RESTORING = "RESTORING"
    RECOMPUTING = "RECOMPUTING"
    TRAINING = "TRAINING"
    EVALUATING = "EVALUATING"
    FINISHING = "FINISHING"


class Outcome(Enum):
    """How a trainer ended. Values are the names of the wire enum without its prefix."""

    DONE = "DONE"
    SAVED = "SAVED"
    STOPPED = "STOPPED"
    PEER_LOST = "PEER_LOST"
    CRASHED = "CRASHED"
    INVALID = "INVALID"


class Reason:
    """Every Failure.reason there is, and the Worker.reason that the service itself gives."""

    # Counted against max_restarts.
    TRAINER_CRASHED = "TrainerCrashed"  # an exception, an exit code, a fatal signal
    OUT_OF_MEMORY = "OutOfMemory"
    OUT_OF_DISK = "OutOfDisk"  # its pod used more of the node's disk than it may
    PEER_LOST = "PeerLost"  # every member blames another one
    HUNG = "ProgressDeadline"  # no step for progress_deadline_seconds
    # Not counted: not the program's fault.
    TRAINER_KILLED = "TrainerKilled"  # SIGKILL or SIGTERM from outside
    TRAINER_FROZEN = "TrainerFrozen"  # SIGSTOP from outside
    STORAGE_FAILED = "StorageFailed"  # the job's storage takes no more writes
    WORKER_LOST = "WorkerLost"  # its agent fell silent
    POD_LOST = "PodLost"  # its pod failed, was deleted or evicted
    # Final.
    INVALID_SPEC = "InvalidSpec"  # stored by kubectl, but no job that could run
    INVALID_PROGRAM = "InvalidProgram"  # trying again is useless
    TOO_MANY_RESTARTS = "TooManyRestarts"
    START_DEADLINE = "StartDeadline"
    ACTIVE_DEADLINE = "ActiveDeadline"

    # No failure of the job, but why a worker is not there.
    POD_REFUSED = "PodRefused"  # the cluster does not let its pod be created

    COUNTED = frozenset({TRAINER_CRASHED, OUT_OF_MEMORY, OUT_OF_DISK, PEER_LOST, HUNG})


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """As job.proto, defaults filled in. best_mode is "max" or "min"."""

    every_steps: int = 0
    every_seconds: int = 60
    keep_last: int = 3
    best_metric: str = ""
    best_mode: str = "max"
    keep_every_steps: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """A packed source folder: lower-case hex SHA-256 of the archive, and its size."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PodOptions:
    """As job.proto, defaults filled in. template is a JSON object, keys sorted, or ""."""

    image: str = ""
    image_pull_policy: str = ""
    requests: Pairs = ()
    limits: Pairs = ()
    gpus: int = 0
    gpu_resource: str = DEFAULT_GPU
    node_selector: Pairs = ()
    priority_class_name: str = ""
    service_account_name: str = ""
    template: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A task module, run by the service's training loop."""

    module: str


@dataclass(frozen=True, slots=True)
class Script:
    """A Python script, run as __main__: job.proto's ScriptProgram."""

    path: str
    arguments: tuple[str, ...] = ()
    distribute: bool = False
    own_checkpoints: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """Any command that reads TF_CONFIG."""

    words: tuple[str, ...]


# What a job runs.
Program = Task | Script | Command


@dataclass(frozen=True, slots=True)
class InitFrom:
    """Another job whose weights a training begins with. step 0: its newest checkpoint."""

    job: str
    step: int = 0


@dataclass(frozen=True, slots=True)
class Rewind:
    """Back to the checkpoint of a step; generations up to that one are left behind."""

    step: int
    generation: int


@dataclass(frozen=True, slots=True)
class Spec:
    """What the user wants: job.proto's TrainingJobSpec with the defaults filled in.

    Without a source, the path in program is an absolute one inside the image.
    progress_deadline_s is None for commands, which report no steps.
    """

    program: Program
    source: Source | None = None
    workers: int = 1
    min_workers: int = 1
    # A pod on a node that is there takes a second or two to be back, with the image present.
    elastic_wait_s: int = 5
    parameters: Pairs = ()
    env: Pairs = ()
    checkpoints: CheckpointPolicy = CheckpointPolicy()
    max_restarts: int = 6
    active_deadline_s: int | None = None
    start_deadline_s: int = 600
    progress_deadline_s: int | None = 600
    ttl_after_finished_s: int | None = None
    grace_s: int = 30
    suspend: bool = False
    cancel: bool = False
    pod: PodOptions = PodOptions()
    storage_claim: str = DEFAULT_CLAIM
    init_from: InitFrom | None = None
    rewind: Rewind | None = None
    evaluator: bool = False

    @property
    def pods(self) -> int:
        """How many pods the job takes at most."""
        return self.workers + self.evaluator


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is: job.proto's Progress."""

    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    loss: float = 0.0
    metrics: Metrics = ()
    examples_per_second: float = 0.0
    seconds_left: float | None = None  # None when unknown
    starved_fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed checkpoint: job.proto's Checkpoint."""

    id: str
    step: int
    generation: int
    size_bytes: int
    created: datetime
    metrics: Metrics = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a generation ended early, or a job failed. worker is -1 when it is not one worker's."""

    reason: str
    message: str
    worker: int = -1
    exit_code: int = 0
    signal: int = 0
    details: str = ""
    generation: int = 0
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class StorageTrouble:
    """The job's storage takes no checkpoints: why, and since when."""

    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Worker:
    """Where one worker stands, for people."""

    index: int
    state: WorkerState = WorkerState.PENDING
    reason: str = ""
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What the service sees. Conditions of the wire are derived from it.

    `generation` is the newest one that was ever ordered to start; it is stored before any
    agent hears of it, so that no number is used twice.
    """

    phase: Phase = Phase.PENDING
    phase_since: datetime | None = None
    message: str = ""
    generation: int = 0
    members: tuple[int, ...] = ()  # worker indexes of the newest generation, ascending
    # Where the members listen, in their order. Agents hold other ports once they have started.
    addresses: tuple[str, ...] = ()
    generation_ended: bool = True  # False while the newest generation may be running
    stopping: bool = False  # the newest generation was told to save and stop
    workers: tuple[Worker, ...] = ()
    progress: Progress = Progress()
    progress_at: datetime | None = None  # when progress was last refreshed here
    last_checkpoint: Checkpoint | None = None
    restarts: int = 0
    restarts_by_reason: tuple[tuple[str, int], ...] = ()
    crashes: int = 0  # restarts that count against max_restarts
    futile_restarts: int = 0  # in a row, without a step beyond failed_at_step
    failed_at_step: int = 0  # the furthest step at which a generation has failed
    restart_after: datetime | None = None
    last_failure: Failure | None = None
    started: datetime | None = None
    finished: datetime | None = None
    last_event: int = 0
    storage_trouble: StorageTrouble | None = None
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def ready_workers(self) -> int:
        """Workers that are ready or running; one that has ended well is there no more."""
        present = (WorkerState.READY, WorkerState.RUNNING)
        return sum(w.state in present for w in self.workers)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as stored. `version` changes with every write (compare-and-set)."""

    key: JobKey
    uid: str
    created: datetime
    spec: Spec
    labels: Pairs = ()
    request_id: str = ""
    fingerprint: str = ""  # of labels and spec as created; tells a repeated create from another
    deleting: datetime | None = None
    version: str = ""
    status: Status = field(default_factory=Status)


class PodPhase(Enum):
    """The phases of a Kubernetes pod."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod as the cluster shows it. reason says why it waits or failed, message for people."""

    index: int
    name: str
    uid: str
    phase: PodPhase
    created: datetime
    reason: str = ""
    message: str = ""
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class RefusedSeen:
    """The cluster refuses to create the pod of a worker: why, how many times in a row, and when
    it last did."""

    index: int
    why: str
    times: int
    at: datetime


@dataclass(frozen=True, slots=True)
class ExitedSeen:
    """How the trainer of a worker ended in a generation."""

    generation: int
    outcome: Outcome
    step: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class MemberSeen:
    """A worker as its agent reports it. One agent has one pod; pod_uid says which.

    `connected` is False after its stream broke; `heard` is when it last said anything.
    `step_since` is when `step` or `stage` last changed.
    """

    index: int
    pod_uid: str
    address: str
    connected: bool
    heard: datetime
    running: int = 0  # generation whose trainer runs, 0 for none
    stage: Stage = Stage.STARTING
    step: int = 0
    base_step: int = 0  # where the generation that runs began
    step_since: datetime | None = None
    progress: Progress | None = None  # the chief's newest
    checkpoint: Checkpoint | None = None  # the chief's newest
    saving_fails: str = ""  # the chief's newest save has failed, and why
    exited: ExitedSeen | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is seen of a job's world. `since` is when this controller began to look, or went on
    after a break in which it heard nobody."""

    pods: tuple[PodSeen, ...]  # by index
    members: tuple[MemberSeen, ...]  # by index
    since: datetime
    refused: tuple[RefusedSeen, ...] = ()  # by index


@dataclass(frozen=True, slots=True)
class StartOrder:
    """Start generation's trainer on a worker; addresses of all members in TF_CONFIG order.

    The evaluator is no member: it has position -1, and needs no addresses.
    """

    index: int
    generation: int
    cluster: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class StopOrder:
    """Stop generation's trainer on a worker, letting it save if it still can."""

    index: int
    generation: int
    save: bool
    grace_s: int


@dataclass(frozen=True, slots=True)
class ReleaseOrder:
    """The worker is needed no more; its agent leaves."""

    index: int


Order = StartOrder | StopOrder | ReleaseOrder


@dataclass(frozen=True, slots=True)
class StateChange:
    """The job went from one phase to another; or stays in one, and something else about it is
    worth telling: the cause of a restart was found, saving begins to fail or works again."""

    before: Phase
    after: Phase
    generation: int
    message: str
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class WorkerChange:
    """A worker went from one state to another."""

    index: int
    before: WorkerState
    after: WorkerState
    generation: int
    message: str


# What an entry of the event log tells: a cost, once it is over.
Change = StateChange | WorkerChange | RestartCost


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the job's event log. Numbered from 1, without gaps."""

    number: int
    time: datetime
    change: Change
