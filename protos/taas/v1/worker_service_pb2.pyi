from protos.taas.v1 import history_pb2 as _history_pb2
from protos.taas.v1 import job_pb2 as _job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainerStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAINER_STAGE_UNSPECIFIED: _ClassVar[TrainerStage]
    TRAINER_STAGE_STARTING: _ClassVar[TrainerStage]
    TRAINER_STAGE_RESTORING: _ClassVar[TrainerStage]
    TRAINER_STAGE_TRAINING: _ClassVar[TrainerStage]
    TRAINER_STAGE_EVALUATING: _ClassVar[TrainerStage]
    TRAINER_STAGE_FINISHING: _ClassVar[TrainerStage]
    TRAINER_STAGE_RECOMPUTING: _ClassVar[TrainerStage]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_DONE: _ClassVar[Outcome]
    OUTCOME_SAVED: _ClassVar[Outcome]
    OUTCOME_STOPPED: _ClassVar[Outcome]
    OUTCOME_PEER_LOST: _ClassVar[Outcome]
    OUTCOME_CRASHED: _ClassVar[Outcome]
    OUTCOME_INVALID: _ClassVar[Outcome]
TRAINER_STAGE_UNSPECIFIED: TrainerStage
TRAINER_STAGE_STARTING: TrainerStage
TRAINER_STAGE_RESTORING: TrainerStage
TRAINER_STAGE_TRAINING: TrainerStage
TRAINER_STAGE_EVALUATING: TrainerStage
TRAINER_STAGE_FINISHING: TrainerStage
TRAINER_STAGE_RECOMPUTING: TrainerStage
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_DONE: Outcome
OUTCOME_SAVED: Outcome
OUTCOME_STOPPED: Outcome
OUTCOME_PEER_LOST: Outcome
OUTCOME_CRASHED: Outcome
OUTCOME_INVALID: Outcome

class ConnectRequest(_message.Message):
    __slots__ = ("hello", "heartbeat", "record", "exited", "log")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    EXITED_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    record: _history_pb2.Record
    exited: Exited
    log: LogChunk
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., record: _Optional[_Union[_history_pb2.Record, _Mapping]] = ..., exited: _Optional[_Union[Exited, _Mapping]] = ..., log: _Optional[_Union[LogChunk, _Mapping]] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("start", "stop", "release", "follow_log")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_LOG_FIELD_NUMBER: _ClassVar[int]
    start: Start
    stop: Stop
    release: Release
    follow_log: FollowLog
    def __init__(self, start: _Optional[_Union[Start, _Mapping]] = ..., stop: _Optional[_Union[Stop, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., follow_log: _Optional[_Union[FollowLog, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("namespace", "job", "job_uid", "index", "pod_uid", "address", "running", "exited", "heartbeat")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    JOB_UID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    POD_UID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    EXITED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    job: str
    job_uid: str
    index: int
    pod_uid: str
    address: str
    running: int
    exited: Exited
    heartbeat: Heartbeat
    def __init__(self, namespace: _Optional[str] = ..., job: _Optional[str] = ..., job_uid: _Optional[str] = ..., index: _Optional[int] = ..., pod_uid: _Optional[str] = ..., address: _Optional[str] = ..., running: _Optional[int] = ..., exited: _Optional[_Union[Exited, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("generation", "step", "stage", "address", "progress", "checkpoint", "saving_fails", "base_step")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SAVING_FAILS_FIELD_NUMBER: _ClassVar[int]
    BASE_STEP_FIELD_NUMBER: _ClassVar[int]
    generation: int
    step: int
    stage: TrainerStage
    address: str
    progress: _job_pb2.Progress
    checkpoint: _job_pb2.Checkpoint
    saving_fails: str
    base_step: int
    def __init__(self, generation: _Optional[int] = ..., step: _Optional[int] = ..., stage: _Optional[_Union[TrainerStage, str]] = ..., address: _Optional[str] = ..., progress: _Optional[_Union[_job_pb2.Progress, _Mapping]] = ..., checkpoint: _Optional[_Union[_job_pb2.Checkpoint, _Mapping]] = ..., saving_fails: _Optional[str] = ..., base_step: _Optional[int] = ...) -> None: ...

class Exited(_message.Message):
    __slots__ = ("generation", "outcome", "failure", "step")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    generation: int
    outcome: Outcome
    failure: _job_pb2.Failure
    step: int
    def __init__(self, generation: _Optional[int] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., failure: _Optional[_Union[_job_pb2.Failure, _Mapping]] = ..., step: _Optional[int] = ...) -> None: ...

class LogChunk(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("generation", "cluster", "position", "assignment")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    generation: int
    cluster: _containers.RepeatedScalarFieldContainer[str]
    position: int
    assignment: str
    def __init__(self, generation: _Optional[int] = ..., cluster: _Optional[_Iterable[str]] = ..., position: _Optional[int] = ..., assignment: _Optional[str] = ...) -> None: ...

class Stop(_message.Message):
    __slots__ = ("generation", "save", "grace_seconds")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SAVE_FIELD_NUMBER: _ClassVar[int]
    GRACE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    save: bool
    grace_seconds: int
    def __init__(self, generation: _Optional[int] = ..., save: bool = ..., grace_seconds: _Optional[int] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FollowLog(_message.Message):
    __slots__ = ("follow", "offset")
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    follow: bool
    offset: int
    def __init__(self, follow: bool = ..., offset: _Optional[int] = ...) -> None: ...
