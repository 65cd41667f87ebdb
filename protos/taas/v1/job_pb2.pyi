from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BestMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BEST_MODE_UNSPECIFIED: _ClassVar[BestMode]
    BEST_MODE_MAX: _ClassVar[BestMode]
    BEST_MODE_MIN: _ClassVar[BestMode]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_PENDING: _ClassVar[Phase]
    PHASE_STARTING: _ClassVar[Phase]
    PHASE_RUNNING: _ClassVar[Phase]
    PHASE_RESTARTING: _ClassVar[Phase]
    PHASE_SUSPENDING: _ClassVar[Phase]
    PHASE_SUSPENDED: _ClassVar[Phase]
    PHASE_SUCCEEDED: _ClassVar[Phase]
    PHASE_FAILED: _ClassVar[Phase]
    PHASE_CANCELLED: _ClassVar[Phase]

class TimePart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIME_PART_UNSPECIFIED: _ClassVar[TimePart]
    TIME_PART_USEFUL: _ClassVar[TimePart]
    TIME_PART_OTHER: _ClassVar[TimePart]
    TIME_PART_DETECTION: _ClassVar[TimePart]
    TIME_PART_STOP: _ClassVar[TimePart]
    TIME_PART_START: _ClassVar[TimePart]
    TIME_PART_RESTORE: _ClassVar[TimePart]
    TIME_PART_RECOMPUTE: _ClassVar[TimePart]

class WorkerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_STATE_UNSPECIFIED: _ClassVar[WorkerState]
    WORKER_STATE_PENDING: _ClassVar[WorkerState]
    WORKER_STATE_READY: _ClassVar[WorkerState]
    WORKER_STATE_RUNNING: _ClassVar[WorkerState]
    WORKER_STATE_DONE: _ClassVar[WorkerState]
    WORKER_STATE_LOST: _ClassVar[WorkerState]
BEST_MODE_UNSPECIFIED: BestMode
BEST_MODE_MAX: BestMode
BEST_MODE_MIN: BestMode
PHASE_UNSPECIFIED: Phase
PHASE_PENDING: Phase
PHASE_STARTING: Phase
PHASE_RUNNING: Phase
PHASE_RESTARTING: Phase
PHASE_SUSPENDING: Phase
PHASE_SUSPENDED: Phase
PHASE_SUCCEEDED: Phase
PHASE_FAILED: Phase
PHASE_CANCELLED: Phase
TIME_PART_UNSPECIFIED: TimePart
TIME_PART_USEFUL: TimePart
TIME_PART_OTHER: TimePart
TIME_PART_DETECTION: TimePart
TIME_PART_STOP: TimePart
TIME_PART_START: TimePart
TIME_PART_RESTORE: TimePart
TIME_PART_RECOMPUTE: TimePart
WORKER_STATE_UNSPECIFIED: WorkerState
WORKER_STATE_PENDING: WorkerState
WORKER_STATE_READY: WorkerState
WORKER_STATE_RUNNING: WorkerState
WORKER_STATE_DONE: WorkerState
WORKER_STATE_LOST: WorkerState

class TrainingJob(_message.Message):
    __slots__ = ("name", "uid", "create_time", "delete_time", "etag", "labels", "spec", "status")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    create_time: _timestamp_pb2.Timestamp
    delete_time: _timestamp_pb2.Timestamp
    etag: str
    labels: _containers.ScalarMap[str, str]
    spec: TrainingJobSpec
    status: TrainingJobStatus
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., delete_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., spec: _Optional[_Union[TrainingJobSpec, _Mapping]] = ..., status: _Optional[_Union[TrainingJobStatus, _Mapping]] = ...) -> None: ...

class TrainingJobSpec(_message.Message):
    __slots__ = ("task", "script", "command", "source", "workers", "min_workers", "elastic_wait_seconds", "init_from", "rewind", "parameters", "env", "checkpoints", "max_restarts", "active_deadline_seconds", "start_deadline_seconds", "progress_deadline_seconds", "ttl_seconds_after_finished", "suspend", "cancel", "grace_seconds", "pod", "storage", "evaluator")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_FIELD_NUMBER: _ClassVar[int]
    SCRIPT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    MIN_WORKERS_FIELD_NUMBER: _ClassVar[int]
    ELASTIC_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    INIT_FROM_FIELD_NUMBER: _ClassVar[int]
    REWIND_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    START_DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_AFTER_FINISHED_FIELD_NUMBER: _ClassVar[int]
    SUSPEND_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    GRACE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_FIELD_NUMBER: _ClassVar[int]
    task: TaskProgram
    script: ScriptProgram
    command: CommandProgram
    source: Source
    workers: int
    min_workers: int
    elastic_wait_seconds: int
    init_from: InitFrom
    rewind: Rewind
    parameters: _containers.ScalarMap[str, str]
    env: _containers.ScalarMap[str, str]
    checkpoints: CheckpointPolicy
    max_restarts: int
    active_deadline_seconds: int
    start_deadline_seconds: int
    progress_deadline_seconds: int
    ttl_seconds_after_finished: int
    suspend: bool
    cancel: bool
    grace_seconds: int
    pod: PodOptions
    storage: StorageOptions
    evaluator: bool
    def __init__(self, task: _Optional[_Union[TaskProgram, _Mapping]] = ..., script: _Optional[_Union[ScriptProgram, _Mapping]] = ..., command: _Optional[_Union[CommandProgram, _Mapping]] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., workers: _Optional[int] = ..., min_workers: _Optional[int] = ..., elastic_wait_seconds: _Optional[int] = ..., init_from: _Optional[_Union[InitFrom, _Mapping]] = ..., rewind: _Optional[_Union[Rewind, _Mapping]] = ..., parameters: _Optional[_Mapping[str, str]] = ..., env: _Optional[_Mapping[str, str]] = ..., checkpoints: _Optional[_Union[CheckpointPolicy, _Mapping]] = ..., max_restarts: _Optional[int] = ..., active_deadline_seconds: _Optional[int] = ..., start_deadline_seconds: _Optional[int] = ..., progress_deadline_seconds: _Optional[int] = ..., ttl_seconds_after_finished: _Optional[int] = ..., suspend: bool = ..., cancel: bool = ..., grace_seconds: _Optional[int] = ..., pod: _Optional[_Union[PodOptions, _Mapping]] = ..., storage: _Optional[_Union[StorageOptions, _Mapping]] = ..., evaluator: bool = ...) -> None: ...

class TaskProgram(_message.Message):
    __slots__ = ("module",)
    MODULE_FIELD_NUMBER: _ClassVar[int]
    module: str
    def __init__(self, module: _Optional[str] = ...) -> None: ...

class ScriptProgram(_message.Message):
    __slots__ = ("path", "arguments", "distribute", "own_checkpoints")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    OWN_CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    path: str
    arguments: _containers.RepeatedScalarFieldContainer[str]
    distribute: bool
    own_checkpoints: bool
    def __init__(self, path: _Optional[str] = ..., arguments: _Optional[_Iterable[str]] = ..., distribute: bool = ..., own_checkpoints: bool = ...) -> None: ...

class CommandProgram(_message.Message):
    __slots__ = ("words",)
    WORDS_FIELD_NUMBER: _ClassVar[int]
    words: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, words: _Optional[_Iterable[str]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("digest", "size_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size_bytes: int
    def __init__(self, digest: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class PodOptions(_message.Message):
    __slots__ = ("image", "image_pull_policy", "requests", "limits", "gpus", "gpu_resource", "node_selector", "priority_class_name", "service_account_name", "template")
    class RequestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LimitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class NodeSelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_PULL_POLICY_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    GPU_RESOURCE_FIELD_NUMBER: _ClassVar[int]
    NODE_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ACCOUNT_NAME_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    image: str
    image_pull_policy: str
    requests: _containers.ScalarMap[str, str]
    limits: _containers.ScalarMap[str, str]
    gpus: int
    gpu_resource: str
    node_selector: _containers.ScalarMap[str, str]
    priority_class_name: str
    service_account_name: str
    template: _struct_pb2.Struct
    def __init__(self, image: _Optional[str] = ..., image_pull_policy: _Optional[str] = ..., requests: _Optional[_Mapping[str, str]] = ..., limits: _Optional[_Mapping[str, str]] = ..., gpus: _Optional[int] = ..., gpu_resource: _Optional[str] = ..., node_selector: _Optional[_Mapping[str, str]] = ..., priority_class_name: _Optional[str] = ..., service_account_name: _Optional[str] = ..., template: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class StorageOptions(_message.Message):
    __slots__ = ("claim_name",)
    CLAIM_NAME_FIELD_NUMBER: _ClassVar[int]
    claim_name: str
    def __init__(self, claim_name: _Optional[str] = ...) -> None: ...

class InitFrom(_message.Message):
    __slots__ = ("job", "step")
    JOB_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    job: str
    step: int
    def __init__(self, job: _Optional[str] = ..., step: _Optional[int] = ...) -> None: ...

class Rewind(_message.Message):
    __slots__ = ("step", "generation")
    STEP_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    step: int
    generation: int
    def __init__(self, step: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class CheckpointPolicy(_message.Message):
    __slots__ = ("every_steps", "every_seconds", "keep_last", "best_metric", "best_mode", "keep_every_steps")
    EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    EVERY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KEEP_LAST_FIELD_NUMBER: _ClassVar[int]
    BEST_METRIC_FIELD_NUMBER: _ClassVar[int]
    BEST_MODE_FIELD_NUMBER: _ClassVar[int]
    KEEP_EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    every_steps: int
    every_seconds: int
    keep_last: int
    best_metric: str
    best_mode: BestMode
    keep_every_steps: int
    def __init__(self, every_steps: _Optional[int] = ..., every_seconds: _Optional[int] = ..., keep_last: _Optional[int] = ..., best_metric: _Optional[str] = ..., best_mode: _Optional[_Union[BestMode, str]] = ..., keep_every_steps: _Optional[int] = ...) -> None: ...

class TrainingJobStatus(_message.Message):
    __slots__ = ("phase", "conditions", "generation", "members", "workers", "ready_workers", "progress", "last_checkpoint", "restarts", "restarts_by_reason", "last_failure", "start_time", "completion_time", "restart_after", "last_event", "phase_since", "crashes", "message", "stopping", "generation_ended", "progress_time", "addresses", "futile_restarts", "failed_at_step", "storage_trouble", "accounting", "goodput")
    class RestartsByReasonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PHASE_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    READY_WORKERS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LAST_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILURE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TIME_FIELD_NUMBER: _ClassVar[int]
    RESTART_AFTER_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_FIELD_NUMBER: _ClassVar[int]
    PHASE_SINCE_FIELD_NUMBER: _ClassVar[int]
    CRASHES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ENDED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_TIME_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    FUTILE_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_AT_STEP_FIELD_NUMBER: _ClassVar[int]
    STORAGE_TROUBLE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTING_FIELD_NUMBER: _ClassVar[int]
    GOODPUT_FIELD_NUMBER: _ClassVar[int]
    phase: Phase
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    generation: int
    members: _containers.RepeatedScalarFieldContainer[int]
    workers: _containers.RepeatedCompositeFieldContainer[WorkerStatus]
    ready_workers: int
    progress: Progress
    last_checkpoint: Checkpoint
    restarts: int
    restarts_by_reason: _containers.ScalarMap[str, int]
    last_failure: Failure
    start_time: _timestamp_pb2.Timestamp
    completion_time: _timestamp_pb2.Timestamp
    restart_after: _timestamp_pb2.Timestamp
    last_event: int
    phase_since: _timestamp_pb2.Timestamp
    crashes: int
    message: str
    stopping: bool
    generation_ended: bool
    progress_time: _timestamp_pb2.Timestamp
    addresses: _containers.RepeatedScalarFieldContainer[str]
    futile_restarts: int
    failed_at_step: int
    storage_trouble: StorageTrouble
    accounting: Accounting
    goodput: float
    def __init__(self, phase: _Optional[_Union[Phase, str]] = ..., conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., generation: _Optional[int] = ..., members: _Optional[_Iterable[int]] = ..., workers: _Optional[_Iterable[_Union[WorkerStatus, _Mapping]]] = ..., ready_workers: _Optional[int] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., last_checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., restarts: _Optional[int] = ..., restarts_by_reason: _Optional[_Mapping[str, int]] = ..., last_failure: _Optional[_Union[Failure, _Mapping]] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., completion_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., restart_after: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_event: _Optional[int] = ..., phase_since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., crashes: _Optional[int] = ..., message: _Optional[str] = ..., stopping: bool = ..., generation_ended: bool = ..., progress_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., addresses: _Optional[_Iterable[str]] = ..., futile_restarts: _Optional[int] = ..., failed_at_step: _Optional[int] = ..., storage_trouble: _Optional[_Union[StorageTrouble, _Mapping]] = ..., accounting: _Optional[_Union[Accounting, _Mapping]] = ..., goodput: _Optional[float] = ...) -> None: ...

class StorageTrouble(_message.Message):
    __slots__ = ("message", "since")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    message: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, message: _Optional[str] = ..., since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Accounting(_message.Message):
    __slots__ = ("useful_seconds", "other_seconds", "lost", "restarts", "part", "since", "furthest_step")
    USEFUL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OTHER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    FURTHEST_STEP_FIELD_NUMBER: _ClassVar[int]
    useful_seconds: float
    other_seconds: float
    lost: LostTime
    restarts: _containers.RepeatedCompositeFieldContainer[RestartCost]
    part: TimePart
    since: _timestamp_pb2.Timestamp
    furthest_step: int
    def __init__(self, useful_seconds: _Optional[float] = ..., other_seconds: _Optional[float] = ..., lost: _Optional[_Union[LostTime, _Mapping]] = ..., restarts: _Optional[_Iterable[_Union[RestartCost, _Mapping]]] = ..., part: _Optional[_Union[TimePart, str]] = ..., since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., furthest_step: _Optional[int] = ...) -> None: ...

class LostTime(_message.Message):
    __slots__ = ("detection_seconds", "stop_seconds", "start_seconds", "restore_seconds", "recompute_seconds")
    DETECTION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STOP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RESTORE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    detection_seconds: float
    stop_seconds: float
    start_seconds: float
    restore_seconds: float
    recompute_seconds: float
    def __init__(self, detection_seconds: _Optional[float] = ..., stop_seconds: _Optional[float] = ..., start_seconds: _Optional[float] = ..., restore_seconds: _Optional[float] = ..., recompute_seconds: _Optional[float] = ...) -> None: ...

class RestartCost(_message.Message):
    __slots__ = ("generation", "reason", "lost", "steps_recomputed", "over")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    STEPS_RECOMPUTED_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    generation: int
    reason: str
    lost: LostTime
    steps_recomputed: int
    over: bool
    def __init__(self, generation: _Optional[int] = ..., reason: _Optional[str] = ..., lost: _Optional[_Union[LostTime, _Mapping]] = ..., steps_recomputed: _Optional[int] = ..., over: bool = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("type", "status", "reason", "message", "last_transition_time")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LAST_TRANSITION_TIME_FIELD_NUMBER: _ClassVar[int]
    type: str
    status: str
    reason: str
    message: str
    last_transition_time: _timestamp_pb2.Timestamp
    def __init__(self, type: _Optional[str] = ..., status: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., last_transition_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WorkerStatus(_message.Message):
    __slots__ = ("index", "state", "reason", "pod")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    index: int
    state: WorkerState
    reason: str
    pod: str
    def __init__(self, index: _Optional[int] = ..., state: _Optional[_Union[WorkerState, str]] = ..., reason: _Optional[str] = ..., pod: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "total_steps", "epoch", "loss", "metrics", "examples_per_second", "seconds_left", "starved_fraction")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    STARVED_FRACTION_FIELD_NUMBER: _ClassVar[int]
    step: int
    total_steps: int
    epoch: float
    loss: float
    metrics: _containers.ScalarMap[str, float]
    examples_per_second: float
    seconds_left: float
    starved_fraction: float
    def __init__(self, step: _Optional[int] = ..., total_steps: _Optional[int] = ..., epoch: _Optional[float] = ..., loss: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., examples_per_second: _Optional[float] = ..., seconds_left: _Optional[float] = ..., starved_fraction: _Optional[float] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("id", "step", "generation", "size_bytes", "create_time", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    id: str
    step: int
    generation: int
    size_bytes: int
    create_time: _timestamp_pb2.Timestamp
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, id: _Optional[str] = ..., step: _Optional[int] = ..., generation: _Optional[int] = ..., size_bytes: _Optional[int] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("reason", "worker", "exit_code", "signal", "message", "details", "generation", "time")
    REASON_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    reason: str
    worker: int
    exit_code: int
    signal: int
    message: str
    details: str
    generation: int
    time: _timestamp_pb2.Timestamp
    def __init__(self, reason: _Optional[str] = ..., worker: _Optional[int] = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[str] = ..., generation: _Optional[int] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
