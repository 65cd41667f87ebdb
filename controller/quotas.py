"""Room for more jobs and workers in a namespace.

Callers of the API are held to it. The other door, kubectl, is bounded by a ResourceQuota of the
namespace; two calls at the same moment may both find the last room.
"""

from __future__ import annotations

from controller.errors import LimitExceeded
from controller.limits import Limits
from controller.model import Job
from controller.ports import JobStore


async def check_room(store: JobStore, limits: Limits, job: Job) -> None:
    """Raise LimitExceeded unless the unfinished jobs of the namespace leave room for this one as
    it is to be; as it is in the store it does not count."""
    unfinished = await store.unfinished(job.key.namespace)
    others = [other for other in unfinished if other.key != job.key]
    jobs, workers = len(others), sum(other.spec.pods for other in others)
    where = f"in namespace {job.key.namespace}"
    if jobs >= limits.max_jobs:
        raise LimitExceeded(
            "jobs",
            f"{jobs} jobs {where} are not finished, the most are {limits.max_jobs}; wait for "
            "some, or cancel them",
        )
    if workers + job.spec.pods > limits.max_namespace_workers:
        raise LimitExceeded(
            "workers",
            f"the unfinished jobs {where} have {workers} workers and this one wants "
            f"{job.spec.pods}, the most are {limits.max_namespace_workers}; wait for some, or "
            "ask for fewer",
        )
