"""The standard conditions of a job, as they follow from its status. Pure."""

from __future__ import annotations

from controller.model import Phase, Status
from controller.wire_values import stamp
from protos.taas.v1 import job_pb2

# A condition holds in exactly these phases. A cancelled job counts as failed, because whoever
# waits for a job in Kubernetes waits for Complete or Failed; the reason tells them apart.
_HOLDS = {
    "Complete": (Phase.SUCCEEDED,),
    "Failed": (Phase.FAILED, Phase.CANCELLED),
    "Suspended": (Phase.SUSPENDED,),
    "Running": (Phase.RUNNING,),
}


def conditions(status: Status) -> list[job_pb2.Condition]:
    """Return all conditions.

    The reason of those that follow from the phase is the phase; that of the condition that a
    failure has made true is the failure's. The phase is all that is remembered, so their time is
    when this phase began; for one that is False it may have turned False in an earlier phase.
    """
    cause = status.last_failure if status.phase is Phase.FAILED else None
    of_phase = [
        job_pb2.Condition(
            type=name,
            status="True" if status.phase in phases else "False",
            reason=cause.reason if cause and status.phase in phases else status.phase.word,
            message=status.message,
            last_transition_time=stamp(status.phase_since),
        )
        for name, phases in _HOLDS.items()
    ]
    return [*of_phase, _storage_failing(status)]


def _storage_failing(status: Status) -> job_pb2.Condition:
    trouble = status.storage_trouble
    return job_pb2.Condition(
        type="StorageFailing",
        status="True" if trouble else "False",
        reason="SaveFailed" if trouble else status.phase.word,
        message=trouble.message if trouble else "",
        last_transition_time=stamp(trouble.since if trouble else status.phase_since),
    )
