"""What users install: the Python client and the command line.

import taas

with taas.Client() as client:
    job = client.submit("examples/mnist_lenet5", name="mnist", workers=2)
    for event in client.watch(job.name):
        print(event)
    client.download(job.name, "mnist")
"""

from importlib import import_module
from typing import TYPE_CHECKING

from protos import __version__

if TYPE_CHECKING:
    from protos.taas.v1.history_pb2 import Event, Record
    from protos.taas.v1.job_pb2 import (
        Checkpoint,
        CheckpointPolicy,
        Failure,
        Phase,
        Progress,
        TrainingJob,
        TrainingJobSpec,
        WorkerState,
    )
    from protos.taas.v1.training_service_pb2 import File, ServiceInfo
    from taas.access import Access
    from taas.client import Client
    from taas.errors import (
        AlreadyExists,
        FailedPrecondition,
        FieldViolation,
        InternalError,
        InvalidRequest,
        LimitExceeded,
        NotFound,
        PermissionDenied,
        ServiceUnavailable,
        TaasError,
        TimedOut,
        Unauthenticated,
    )
    from taas.names import is_final, phase_name

__all__ = [
    "Access",
    "AlreadyExists",
    "Checkpoint",
    "CheckpointPolicy",
    "Client",
    "Event",
    "FailedPrecondition",
    "Failure",
    "FieldViolation",
    "File",
    "InternalError",
    "InvalidRequest",
    "LimitExceeded",
    "NotFound",
    "PermissionDenied",
    "Phase",
    "Progress",
    "Record",
    "ServiceInfo",
    "ServiceUnavailable",
    "TaasError",
    "TimedOut",
    "TrainingJob",
    "TrainingJobSpec",
    "Unauthenticated",
    "WorkerState",
    "__version__",
    "is_final",
    "phase_name",
]

_MODULES = (
    "taas.access",
    "taas.client",
    "taas.errors",
    "taas.names",
    "protos.taas.v1.history_pb2",
    "protos.taas.v1.job_pb2",
    "protos.taas.v1.training_service_pb2",
)

if not TYPE_CHECKING:  # which would take any name for a known one

    def __getattr__(name: str) -> object:
        """Load what is asked for: gRPC takes a while, in which the command line must be able to
        handle Ctrl-C, and that can only begin once this package is there."""
        if name in __all__:
            for module in map(import_module, _MODULES):
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
