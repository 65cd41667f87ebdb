from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.taas.v1 import job_pb2 as _job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("cursor", "time", "state", "record", "worker", "restart")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    time: _timestamp_pb2.Timestamp
    state: StateChange
    record: Record
    worker: WorkerChange
    restart: _job_pb2.RestartCost
    def __init__(self, cursor: _Optional[str] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[StateChange, _Mapping]] = ..., record: _Optional[_Union[Record, _Mapping]] = ..., worker: _Optional[_Union[WorkerChange, _Mapping]] = ..., restart: _Optional[_Union[_job_pb2.RestartCost, _Mapping]] = ...) -> None: ...

class StateChange(_message.Message):
    __slots__ = ("to", "generation", "message", "failure")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    to: _job_pb2.Phase
    generation: int
    message: str
    failure: _job_pb2.Failure
    def __init__(self, to: _Optional[_Union[_job_pb2.Phase, str]] = ..., generation: _Optional[int] = ..., message: _Optional[str] = ..., failure: _Optional[_Union[_job_pb2.Failure, _Mapping]] = ..., **kwargs) -> None: ...

class WorkerChange(_message.Message):
    __slots__ = ("index", "to", "generation", "message")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    index: int
    to: _job_pb2.WorkerState
    generation: int
    message: str
    def __init__(self, index: _Optional[int] = ..., to: _Optional[_Union[_job_pb2.WorkerState, str]] = ..., generation: _Optional[int] = ..., message: _Optional[str] = ..., **kwargs) -> None: ...

class Record(_message.Message):
    __slots__ = ("generation", "index", "time", "progress", "checkpoint", "evaluation", "restored", "exported", "notice")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    EXPORTED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    generation: int
    index: int
    time: _timestamp_pb2.Timestamp
    progress: _job_pb2.Progress
    checkpoint: _job_pb2.Checkpoint
    evaluation: Evaluation
    restored: Restored
    exported: Exported
    notice: Notice
    def __init__(self, generation: _Optional[int] = ..., index: _Optional[int] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., progress: _Optional[_Union[_job_pb2.Progress, _Mapping]] = ..., checkpoint: _Optional[_Union[_job_pb2.Checkpoint, _Mapping]] = ..., evaluation: _Optional[_Union[Evaluation, _Mapping]] = ..., restored: _Optional[_Union[Restored, _Mapping]] = ..., exported: _Optional[_Union[Exported, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("dataset", "step", "examples", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DATASET_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    step: int
    examples: int
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, dataset: _Optional[str] = ..., step: _Optional[int] = ..., examples: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Restored(_message.Message):
    __slots__ = ("step", "checkpoint", "skipped")
    STEP_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    step: int
    checkpoint: str
    skipped: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, step: _Optional[int] = ..., checkpoint: _Optional[str] = ..., skipped: _Optional[_Iterable[str]] = ...) -> None: ...

class Exported(_message.Message):
    __slots__ = ("step", "paths", "size_bytes")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    step: int
    paths: _containers.RepeatedScalarFieldContainer[str]
    size_bytes: int
    def __init__(self, step: _Optional[int] = ..., paths: _Optional[_Iterable[str]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
