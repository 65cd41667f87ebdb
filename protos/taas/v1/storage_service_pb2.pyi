from protos.taas.v1 import job_pb2 as _job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StoredJob(_message.Message):
    __slots__ = ("namespace", "job", "uid")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    job: str
    uid: str
    def __init__(self, namespace: _Optional[str] = ..., job: _Optional[str] = ..., uid: _Optional[str] = ...) -> None: ...

class StoredTree(_message.Message):
    __slots__ = ("job", "checkpoint")
    JOB_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    job: StoredJob
    checkpoint: str
    def __init__(self, job: _Optional[_Union[StoredJob, _Mapping]] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class ListGenerationsRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: StoredJob
    def __init__(self, job: _Optional[_Union[StoredJob, _Mapping]] = ...) -> None: ...

class ListGenerationsResponse(_message.Message):
    __slots__ = ("generations",)
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    generations: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, generations: _Optional[_Iterable[int]] = ...) -> None: ...

class ReadRecordsRequest(_message.Message):
    __slots__ = ("job", "generation", "start", "limit")
    JOB_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    job: StoredJob
    generation: int
    start: int
    limit: int
    def __init__(self, job: _Optional[_Union[StoredJob, _Mapping]] = ..., generation: _Optional[int] = ..., start: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ReadRecordsResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lines: _Optional[_Iterable[str]] = ...) -> None: ...

class ReadLogRequest(_message.Message):
    __slots__ = ("job", "worker", "offset", "limit")
    JOB_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    job: StoredJob
    worker: int
    offset: int
    limit: int
    def __init__(self, job: _Optional[_Union[StoredJob, _Mapping]] = ..., worker: _Optional[int] = ..., offset: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ReadLogResponse(_message.Message):
    __slots__ = ("data", "offset")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offset: int
    def __init__(self, data: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class GetLogSizeRequest(_message.Message):
    __slots__ = ("job", "worker")
    JOB_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    job: StoredJob
    worker: int
    def __init__(self, job: _Optional[_Union[StoredJob, _Mapping]] = ..., worker: _Optional[int] = ...) -> None: ...

class GetLogSizeResponse(_message.Message):
    __slots__ = ("size_bytes",)
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    def __init__(self, size_bytes: _Optional[int] = ...) -> None: ...

class ListStoredCheckpointsRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: StoredJob
    def __init__(self, job: _Optional[_Union[StoredJob, _Mapping]] = ...) -> None: ...

class ListStoredCheckpointsResponse(_message.Message):
    __slots__ = ("checkpoints",)
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    checkpoints: _containers.RepeatedCompositeFieldContainer[_job_pb2.Checkpoint]
    def __init__(self, checkpoints: _Optional[_Iterable[_Union[_job_pb2.Checkpoint, _Mapping]]] = ...) -> None: ...

class ListStoredFilesRequest(_message.Message):
    __slots__ = ("tree",)
    TREE_FIELD_NUMBER: _ClassVar[int]
    tree: StoredTree
    def __init__(self, tree: _Optional[_Union[StoredTree, _Mapping]] = ...) -> None: ...

class ListStoredFilesResponse(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[StoredFile]
    def __init__(self, files: _Optional[_Iterable[_Union[StoredFile, _Mapping]]] = ...) -> None: ...

class StoredFile(_message.Message):
    __slots__ = ("path", "size_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    size_bytes: int
    def __init__(self, path: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class ReadStoredFileRequest(_message.Message):
    __slots__ = ("tree", "path", "offset", "limit")
    TREE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    tree: StoredTree
    path: str
    offset: int
    limit: int
    def __init__(self, tree: _Optional[_Union[StoredTree, _Mapping]] = ..., path: _Optional[str] = ..., offset: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ReadStoredFileResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class HasSourceRequest(_message.Message):
    __slots__ = ("namespace", "digest")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    digest: str
    def __init__(self, namespace: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class HasSourceResponse(_message.Message):
    __slots__ = ("found",)
    FOUND_FIELD_NUMBER: _ClassVar[int]
    found: bool
    def __init__(self, found: bool = ...) -> None: ...

class ReceiveSourceRequest(_message.Message):
    __slots__ = ("header", "data", "commit", "abort")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    ABORT_FIELD_NUMBER: _ClassVar[int]
    header: SourceHeader
    data: bytes
    commit: bool
    abort: bool
    def __init__(self, header: _Optional[_Union[SourceHeader, _Mapping]] = ..., data: _Optional[bytes] = ..., commit: bool = ..., abort: bool = ...) -> None: ...

class SourceHeader(_message.Message):
    __slots__ = ("namespace", "digest", "size_bytes")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    digest: str
    size_bytes: int
    def __init__(self, namespace: _Optional[str] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class ReceiveSourceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteStoredJobRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: StoredJob
    def __init__(self, job: _Optional[_Union[StoredJob, _Mapping]] = ...) -> None: ...

class DeleteStoredJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CollectSourcesRequest(_message.Message):
    __slots__ = ("namespace", "keep")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    keep: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, namespace: _Optional[str] = ..., keep: _Optional[_Iterable[str]] = ...) -> None: ...

class CollectSourcesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
