"""Jobs as TrainingJob objects: the JobStore of the Kubernetes backend.

The API server has the truth; reads come from a copy that a watch keeps up to date and that own
writes enter at once. Every write is a compare-and-set by resourceVersion.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from controller import paging
from controller.changes import ChangeReader, Changes
from controller.errors import (
    ClusterRefused,
    Conflict,
    InvalidJob,
    JobExists,
    JobNotFound,
    TaasError,
)
from controller.kubernetes import job_documents
from controller.kubernetes.background import Background
from controller.kubernetes.client import MERGE, Api, Document
from controller.kubernetes.job_documents import StoredJob
from controller.kubernetes.recorder import Recorder
from controller.kubernetes.replies import Missing, Rejected, Taken
from controller.kubernetes.watch import Collection, Item
from controller.model import Job, JobKey, LogEntry, Spec, Status
from controller.ports import ListFilter, Page
from controller.resource import KIND

_log = logging.getLogger(__name__)

_RETRY_S = 1.0
# Of a finalizer that another writer keeps getting in front of.
_MOST_TRIES = 10


class KubernetesStore:
    """The JobStore over TrainingJob objects of all namespaces; open while its `async with` block
    runs. Entering waits for the API server for as long as that takes.

    Ours is a finalizer on every job, so that a job goes only after its workers and files. It is
    stored with the job, or, for one that kubectl made, before its first status, thus before
    anything is created for it.
    """

    def __init__(self, api: Api, recorder: Recorder | None = None) -> None:
        self._api = api
        self._recorder = recorder
        self._changes = Changes()
        self._odd = ChangeReader()  # jobs that lack our finalizer, or the word that they failed
        self._background = Background()
        self._jobs: Collection[StoredJob] = Collection(
            api, job_documents.ALL, read=job_documents.read, changed=self._changed
        )

    async def __aenter__(self) -> KubernetesStore:
        await self._jobs.open(self._background)
        self._background.start(self._mend_odd())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._background.aclose()
        self._changes.close()

    # --- Reading

    async def get(self, key: JobKey) -> Job:
        """Return a job. Raises JobNotFound."""
        return self._stored(key).job

    async def list(self, wanted: ListFilter, page_size: int, token: str) -> Page:
        """Return a page of jobs, newest first; jobs of one second by name, backwards. Raises
        InvalidJob("pageToken") on a bad token."""
        before = paging.place(token, wanted)
        found = sorted(
            (
                (_place(item.value.job), item.value.job)
                for item in self._jobs.items()
                if _matches(item.value.job, wanted)
            ),
            key=lambda pair: pair[0],
            reverse=True,
        )
        left = [job for place, job in found if before is None or place < before]
        shown = left[:page_size]
        more = len(left) > len(shown) and shown
        next_token = paging.token(_place(shown[-1]), wanted) if more else ""
        return Page(tuple(shown), next_token)

    async def keys(self) -> tuple[JobKey, ...]:
        """Return the keys of all jobs."""
        return tuple(item.value.job.key for item in self._jobs.items())

    async def unfinished(self, namespace: str) -> tuple[Job, ...]:
        """Return the jobs of a namespace that are not final, in no order."""
        jobs = (item.value.job for item in self._jobs.items())
        return tuple(
            job for job in jobs if job.key.namespace == namespace and not job.status.phase.final
        )

    async def entries(self, job: Job, after: int) -> tuple[LogEntry, ...]:
        """Return the event log after that number, oldest first, as far back as it is kept."""
        item = self._jobs.get(*_name(job.key))
        if item is None or item.uid != job.uid:
            return ()
        return job_documents.entries(item.value.document, after)

    def changes(self) -> AsyncIterator[JobKey]:
        """Yield the key of every job that is written from now on, by whoever."""
        return self._changes.reader()

    # --- Writing

    async def create(self, job: Job) -> Job:
        """Store a new job, without its status, and return it with its version and with the uid
        and the time that the API server gave it. Raises JobExists, InvalidJob, ClusterRefused."""
        try:
            document = await self._api.call(
                "POST",
                job_documents.path(job.key.namespace),
                body=job_documents.new_document(job),
            )
        except Taken as error:
            await self._refresh(job.key)
            raise JobExists(str(job.key)) from error
        except Missing as error:
            raise ClusterRefused(
                f"namespace {job.key.namespace} does not exist; create it, for example with "
                f"`kubectl create namespace {job.key.namespace}`"
            ) from error
        except Rejected as error:
            raise _invalid(error) from error
        return self._jobs.put(document).value.job

    async def put_spec(self, job: Job, spec: Spec) -> Job:
        """Replace the spec if the stored version is still job's; what does not change keeps its
        version. Raises Conflict, JobNotFound, InvalidJob."""
        stored = self._same(job)
        change = job_documents.spec_patch(stored, spec)
        if not change:
            return self._unchanged(stored)
        try:
            return (await self._patch(stored, {"spec": change})).job
        except Rejected as error:
            raise _invalid(error) from error

    async def put_status(self, job: Job, status: Status, entries: Sequence[LogEntry]) -> Job:
        """Replace the status and append to the event log in one write, if the stored version is
        still job's; what does not change keeps its version. Raises Conflict, JobNotFound;
        ValueError if the entries do not follow the log's last number."""
        stored = self._same(job)
        change = job_documents.status_patch(stored, status, entries)
        if not stored.held and job.deleting is None:
            stored = await self._hold(stored)
        if not change:
            return self._unchanged(stored)
        stored = await self._patch(stored, {"status": change}, "status")
        if self._recorder is not None:
            self._recorder.record(stored.job, entries)
        return stored.job

    async def mark_deleting(self, key: JobKey) -> Job:
        """Record that deletion was asked for; a second call changes nothing. Raises JobNotFound."""
        job = self._stored(key).job
        if job.deleting is not None:
            return job
        try:
            document = await self._delete(job)
        except Missing as error:
            self._jobs.drop(*_name(key), job.uid)
            raise JobNotFound(str(key)) from error
        except Conflict as error:
            await self._refresh(key)
            raise JobNotFound(str(key)) from error
        if document.get("kind") == KIND and document["metadata"].get("finalizers"):
            return self._jobs.put(document).value.job
        # Nothing held it, because it was new: it is gone.
        self._jobs.drop(*_name(key), job.uid)
        return replace(job, deleting=datetime.now(UTC))

    async def remove(self, job: Job) -> None:
        """Forget a job and its event log. Nothing happens if it is gone."""
        for _ in range(_MOST_TRIES):
            item = self._jobs.get(*_name(job.key))
            if item is None or item.uid != job.uid:
                return
            stored = item.value
            try:
                if stored.job.deleting is None:
                    # In this order a crash in between leaves a job that is being deleted.
                    stored = self._jobs.put(await self._delete(job)).value
                if stored.held:
                    await self._release(stored)
                return
            except Missing:
                self._jobs.drop(*_name(job.key), job.uid)
                return
            except Conflict:
                await self._refresh(job.key)
        raise Conflict(f"{job.key} is written by others too often to be removed")

    # --- Parts of writes

    async def _patch(self, stored: StoredJob, change: Document, subresource: str = "") -> StoredJob:
        """Write one change as the next version of a stored job. Raises Conflict, JobNotFound."""
        job = stored.job
        metadata = {"uid": job.uid, "resourceVersion": job.version}
        body = {**change, "metadata": {**change.get("metadata", {}), **metadata}}
        url = job_documents.path(*_name(job.key), subresource)
        try:
            document = await self._api.call("PATCH", url, body=body, content_type=MERGE)
        except Missing as error:
            self._jobs.drop(*_name(job.key), job.uid)
            raise JobNotFound(str(job.key)) from error
        except Conflict:
            # The next attempt must not meet the same old copy.
            await self._refresh(job.key)
            raise
        return self._jobs.put(document).value

    async def _hold(self, stored: StoredJob) -> StoredJob:
        """Put our finalizer on a job."""
        kept = job_documents.finalizers(stored, held=True)
        return await self._patch(stored, {"metadata": {"finalizers": kept}})

    async def _release(self, stored: StoredJob) -> None:
        """Take our finalizer off a job that is being deleted, and so let it go."""
        kept = job_documents.finalizers(stored, held=False)
        try:
            await self._patch(stored, {"metadata": {"finalizers": kept}})
        except JobNotFound:
            return
        if not kept:
            self._jobs.drop(*_name(stored.job.key), stored.job.uid)

    async def _delete(self, job: Job) -> Document:
        url = job_documents.path(*_name(job.key))
        return await self._api.delete(url, uid=job.uid, policy="Background")

    async def _refresh(self, key: JobKey) -> None:
        """Read a job from the API server, past the copy."""
        try:
            self._jobs.put(await self._api.call("GET", job_documents.path(*_name(key))))
        except Missing:
            item = self._jobs.get(*_name(key))
            if item is not None:
                self._jobs.drop(*_name(key), item.uid)

    # --- The copy

    def _stored(self, key: JobKey) -> StoredJob:
        item = self._jobs.get(*_name(key))
        if item is None:
            raise JobNotFound(str(key))
        return item.value

    def _same(self, job: Job) -> StoredJob:
        """Return the stored job if it is at the same version. Raises Conflict, JobNotFound."""
        stored = self._stored(job.key)
        if (stored.job.version, stored.job.uid) != (job.version, job.uid):
            raise Conflict(f"{job.key} is at version {stored.job.version}, not {job.version}")
        return stored

    def _unchanged(self, stored: StoredJob) -> Job:
        self._changes.tell(stored.job.key)
        return stored.job

    def _changed(self, before: Item[StoredJob] | None, after: Item[StoredJob] | None) -> None:
        for item in (before, after):
            if item is not None:
                self._changes.tell(item.value.job.key)
        if after is not None and _is_odd(after.value):
            self._odd.mark(after.value.job.key)

    # --- What kubectl leaves behind

    async def _mend_odd(self) -> None:
        """Store the refusal of jobs that cannot run, and hold those again whose finalizer was
        taken off, as `kubectl replace` does, and that may have files."""
        async for key in self._odd:
            try:
                await self._mend(self._stored(key))
            except (Conflict, JobNotFound):
                # The write in front of ours is looked at when it arrives.
                continue
            except TaasError as error:
                _log.warning("%s: %s; again in %.0f s", key, error, _RETRY_S)
                self._odd.mark(key)
                await asyncio.sleep(_RETRY_S)

    async def _mend(self, stored: StoredJob) -> None:
        refusal = stored.refusal
        if refusal is not None:
            _log.info("%s: refused: %s", stored.job.key, stored.job.status.message)
            change = job_documents.refusal_patch(stored, refusal)
            stored = await self._patch(stored, {"status": change}, "status")
            if self._recorder is not None:
                self._recorder.record(stored.job, [refusal])
        elif _is_odd(stored):
            await self._hold(stored)


def _is_odd(stored: StoredJob) -> bool:
    status = stored.job.status
    begun = status.phase_since is not None
    # What was refused has never run, and so leaves no files behind.
    to_hold = begun and (status.generation > 0 or not status.phase.final)
    lost_hold = to_hold and not stored.held and stored.job.deleting is None
    return stored.refusal is not None or lost_hold


def _invalid(error: Rejected) -> InvalidJob:
    field = error.field or "spec"
    return InvalidJob(field, f"{error.cause}; see `kubectl explain trainingjob.spec`")


def _name(key: JobKey) -> tuple[str, str]:
    return key.namespace, key.name


def _place(job: Job) -> tuple[str, str, str]:
    return job.created.isoformat(), job.key.namespace, job.key.name


def _matches(job: Job, wanted: ListFilter) -> bool:
    return (
        wanted.namespace in (None, job.key.namespace)
        and (not wanted.phases or job.status.phase.value in wanted.phases)
        and job.key.name.startswith(wanted.name_prefix)
        and set(wanted.labels) <= set(job.labels)
    )
