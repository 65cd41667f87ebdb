"""Jobs as they were last committed, in memory: who reads them waits neither for the disk nor for
a parser."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controller.errors import JobNotFound
from controller.model import Job, JobKey, Phase

Row = tuple[int, str, str]  # version, document, uid

_FINAL = frozenset(phase.value for phase in Phase if phase.final)


class Copies:
    """The copy of a table of jobs. Rows are parsed when they are first asked for, so that many of
    them do not hold up a start."""

    def __init__(self, parse: Callable[[Row], Job]) -> None:
        self._parse = parse
        self._known: dict[JobKey, Job | Row] = {}
        self._unfinished: dict[str, dict[JobKey, None]] = {}  # by namespace

    def load(self, rows: Iterable[tuple[JobKey, str, Row]]) -> None:
        """Take in what is in the table: key, phase and row of each job."""
        for key, phase, row in rows:
            self._known[key] = row
            self._note(key, unfinished=phase not in _FINAL)

    def find(self, key: JobKey) -> Job | None:
        """Return a job, None if there is none. Raises what the parser raises."""
        known = self._known.get(key)
        if isinstance(known, tuple):
            known = self._known[key] = self._parse(known)
        return known

    def job(self, key: JobKey) -> Job:
        """Return a job. Raises JobNotFound, and what the parser raises."""
        job = self.find(key)
        if job is None:
            raise JobNotFound(str(key))
        return job

    def unfinished(self, namespace: str) -> tuple[Job, ...]:
        """Return the jobs of a namespace that are not final, in no order."""
        return tuple(self.job(key) for key in self._unfinished.get(namespace, ()))

    def put(self, job: Job) -> None:
        """Take in a job as it is now."""
        self._known[job.key] = job
        self._note(job.key, unfinished=not job.status.phase.final)

    def drop(self, job: Job) -> None:
        """Take in that a job is gone; another one of its name stays."""
        known = self._known.get(job.key, job)
        if (known[2] if isinstance(known, tuple) else known.uid) == job.uid:
            self._known.pop(job.key, None)
            self._note(job.key, unfinished=False)

    def _note(self, key: JobKey, *, unfinished: bool) -> None:
        keys = self._unfinished.setdefault(key.namespace, {})
        if unfinished:
            keys[key] = None
        else:
            keys.pop(key, None)
            if not keys:
                del self._unfinished[key.namespace]
