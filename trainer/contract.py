"""What agent, trainer and controller agree on: names, exit codes, the assignment. Stdlib only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum

# Environment of a worker pod. The agent reads these once; nothing else in trainer reads them.
ENV_NAMESPACE = "TAAS_NAMESPACE"
ENV_JOB = "TAAS_JOB"
ENV_JOB_UID = "TAAS_JOB_UID"
ENV_WORKER_INDEX = "TAAS_WORKER_INDEX"
# Identity of the pod incarnation.
ENV_POD_UID = "TAAS_POD_UID"
# gRPC target of the controller, for example unix:/run/taas/taas.sock or taas-controller:8080.
ENV_CONTROLLER = "TAAS_CONTROLLER"
# Certificates, as PEM, of whom the agent believes that it is the controller; without them the
# controller is on this machine and is called without TLS.
ENV_CONTROLLER_CA = "TAAS_CONTROLLER_CA"
# File with the token that tells the controller which pod calls. It is renewed now and then.
ENV_TOKEN_FILE = "TAAS_TOKEN_FILE"
# Address that the other workers reach this pod at.
ENV_POD_IP = "TAAS_POD_IP"
# Root of the shared storage, as storage.JobPaths lays it out.
ENV_STORAGE = "TAAS_STORAGE"
# Folder of this pod's own; gone with the pod.
ENV_SCRATCH = "TAAS_SCRATCH"
# Seconds between the SIGTERM and the SIGKILL of a pod that is ended; 30 when unset.
ENV_GRACE_S = "TAAS_GRACE_S"
# File descriptor on which the trainer writes reports, one JSON object a line.
ENV_REPORT_FD = "TAAS_REPORT_FD"

# Where the program's results go, for scripts and commands: the job's output folder on the chief,
# a folder of its own on every other worker.
ENV_OUTPUT_DIR = "TAAS_OUTPUT_DIR"

# "off" has TensorFlow's own ring reduce the gradients; for a job's env, or a pod template's.
ENV_RING = "GRADIENT_RING"

# Names a user's spec.env may not set.
RESERVED_ENV_PREFIX = "TAAS_"
RESERVED_ENV = frozenset({"TF_CONFIG"})


def is_reserved(name: str) -> bool:
    """Say whether the service itself sets this variable for every worker."""
    return name in RESERVED_ENV or name.startswith(RESERVED_ENV_PREFIX)


def permitted_env(env: Mapping[str, str]) -> dict[str, str]:
    """Return what a job may set of its env: all but the reserved names."""
    return {name: value for name, value in env.items() if not is_reserved(name)}


class ExitCode(IntEnum):
    """How a trainer process ends. Any other code, and any signal, is a crash.

    A program may end its process with any of these by itself, so DONE, SAVED, STORAGE,
    PEER_LOST and INVALID count only together with a report "leaving" of the same code.
    """

    DONE = 0
    # An exception of the program during training.
    CRASHED = 1
    # The storage takes no more writes. EX_IOERR of sysexits.h.
    STORAGE = 74
    # Asked to stop; saved and left. TensorFlow's own preemption handler uses the same number.
    SAVED = 42
    # A peer went away; the cause lies elsewhere. EX_TEMPFAIL of sysexits.h.
    PEER_LOST = 75
    # The program cannot work as it is (it does not import, its data is missing). EX_CONFIG.
    INVALID = 78


class Reason:
    """The values of Failure.reason that an agent reports."""

    TRAINER_CRASHED = "TrainerCrashed"  # an exception, an exit code, a fatal signal
    TRAINER_KILLED = "TrainerKilled"  # SIGKILL or SIGTERM from outside
    TRAINER_FROZEN = "TrainerFrozen"  # SIGSTOP from outside
    OUT_OF_MEMORY = "OutOfMemory"  # SIGKILL by the kernel's memory killer
    PEER_LOST = "PeerLost"  # the cause lies with another worker
    STOPPED = "Stopped"  # its agent was told to stop it
    INVALID_PROGRAM = "InvalidProgram"  # trying again is useless
    STORAGE_FAILED = "StorageFailed"  # the job's storage takes no more writes


class Stage:
    """What a trainer is doing; the values of a "stage" report."""

    STARTING = "starting"
    RESTORING = "restoring"
    RECOMPUTING = "recomputing"
    TRAINING = "training"
    EVALUATING = "evaluating"
    FINISHING = "finishing"


class Report:
    """Types of the objects a trainer writes to ENV_REPORT_FD, one JSON object a line.

    {"type": "stage", "stage": Stage.*, "step": int}     at every change of stage
    {"type": "step", "step": int}                        after every call of the training function
    {"type": "record", "record": {...}}                  chief: a history.proto Record as proto
                                                         JSON, sent after it is in the record file
    {"type": "saving", "failure": str}                   chief: why the newest checkpoint could not
                                                         be saved; "" when one is saved again
    {"type": "failure", "message": str, "details": str}  before leaving with CRASHED or INVALID;
                                                         details is the program's own traceback
    {"type": "leaving", "code": int}                     last: the process ends now with this
                                                         ExitCode, and not because of the program
    """

    STAGE = "stage"
    STEP = "step"
    RECORD = "record"
    SAVING = "saving"
    FAILURE = "failure"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """When the trainer saves and what it keeps; defaults are filled in by the controller."""

    every_steps: int = 0
    every_seconds: int = 60
    keep_last: int = 3
    best_metric: str = ""
    best_mode: str = "max"
    keep_every_steps: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    """How a script is run; what it is, is Assignment.module. As job.proto's ScriptProgram."""

    arguments: tuple[str, ...] = ()
    distribute: bool = False
    own_checkpoints: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """Everything one trainer process needs to know about the generation it belongs to.

    The controller fills in the job's part (`Assignment.to_json` travels in `Start.assignment`);
    the agent adds the part that only it knows with `dataclasses.replace`.
    """

    namespace: str
    job: str
    job_uid: str
    generation: int
    # Path of the Python file to run, inside the source folder: the task's module or, where
    # `script` is set, the script. Without a source (digest ""), its absolute path inside the
    # image. Empty for a command.
    module: str
    source_digest: str
    parameters: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    checkpointing: Checkpointing = Checkpointing()
    # Steps up to this one were made before, by generations that have ended.
    furthest_step: int = 0
    # Another job whose weights the training begins with, and the step of its checkpoint; 0: the
    # newest.
    init_job: str = ""
    init_step: int = 0
    # The step that the job is sent back to by the first generation after that one; 0: it is not.
    rewind_step: int = 0
    rewind_after: int = 0
    # Whether a worker besides the group looks at the validation set.
    evaluator: bool = False
    # At most one of these is set; without any the job is a task.
    script: Script | None = None
    command: tuple[str, ...] = ()
    # host:port of every member, in the order of TF_CONFIG; the chief is position 0. The evaluator
    # is no member: its position is -1, and there are none for it.
    cluster: tuple[str, ...] = ()
    position: int = 0
    # The agent's part: absolute folders. The program runs in source_dir.
    storage_root: str = ""
    source_dir: str = ""
    scratch_dir: str = ""
    # What ENV_OUTPUT_DIR says; empty for tasks.
    output_dir: str = ""
    # Where the packages of the program's requirements.txt are; empty without one.
    packages_dir: str = ""

    @property
    def is_evaluator(self) -> bool:
        """True for the worker that looks at checkpoints beside the group."""
        return self.position < 0

    @property
    def is_chief(self) -> bool:
        """True for the one member that writes checkpoints, records and the model."""
        return self.position == 0

    @property
    def program_dir(self) -> str:
        """The folder of the task's or script's file, where its other modules lie."""
        return os.path.dirname(os.path.join(self.source_dir, self.module))

    @property
    def address(self) -> str:
        """Where the others reach this member; "" if it has no place in the cluster."""
        return self.cluster[self.position] if 0 <= self.position < len(self.cluster) else ""

    def tf_config(self) -> str:
        """Return TF_CONFIG of this member, as TensorFlow documents it."""
        return json.dumps(
            {
                "cluster": {"worker": list(self.cluster)},
                "task": {"type": "worker", "index": self.position},
            }
        )

    def to_json(self) -> str:
        """Return the assignment as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Assignment:
        """Parse what `to_json` wrote. Raises ValueError or TypeError on anything else."""
        raw = json.loads(text)
        raw["checkpointing"] = Checkpointing(**raw["checkpointing"])
        for name in ("cluster", "command"):
            raw[name] = tuple(raw[name])
        if raw["script"] is not None:
            arguments = tuple(raw["script"]["arguments"])
            raw["script"] = Script(**(raw["script"] | {"arguments": arguments}))
        return Assignment(**raw)
