"""The pods that the cluster refuses to create: what it said, and how often in a row."""

from __future__ import annotations

from datetime import datetime

from controller.model import RefusedSeen


class Refusals:
    """Refusals by job and worker, from the first until the pod is created. Kept in memory only:
    a new controller asks the cluster again, and hears it again."""

    def __init__(self) -> None:
        self._refused: dict[str, dict[int, RefusedSeen]] = {}

    def of(self, uid: str) -> tuple[RefusedSeen, ...]:
        """Return the refusals of a job, by index."""
        return tuple(seen for _, seen in sorted(self._refused.get(uid, {}).items()))

    def refused(self, uid: str, index: int, why: str, now: datetime) -> None:
        """Note that the pod of a worker was refused."""
        of_job = self._refused.setdefault(uid, {})
        before = of_job.get(index)
        of_job[index] = RefusedSeen(index, why, before.times + 1 if before else 1, now)

    def created(self, uid: str, index: int) -> None:
        """Note that the pod of a worker was created."""
        of_job = self._refused.get(uid, {})
        if of_job.pop(index, None) is not None and not of_job:
            del self._refused[uid]

    def forget(self, uid: str) -> None:
        """Drop what is known of a job that needs no pods any more."""
        self._refused.pop(uid, None)
