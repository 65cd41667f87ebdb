"""Serves clients: parse the request, ask a port, answer. Decisions are made elsewhere."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller import parse, parse_filter, parse_names, parse_spec, quotas, wire
from controller.access.allowance import Allowance
from controller.access.callers import calling
from controller.access.slices import Slices
from controller.cursors import LogCursor, WatchCursor
from controller.errors import (
    Conflict,
    InvalidJob,
    JobExists,
    JobNotFound,
    LimitExceeded,
    WrongState,
)
from controller.history import History
from controller.limits import Limits
from controller.logs import Logs
from controller.model import EVALUATOR, Job, JobKey, Phase, Rewind, Spec
from controller.ports import JobStore, SourceWriter, Storage
from protos.taas.v1 import job_pb2, training_service_pb2_grpc
from protos.taas.v1 import training_service_pb2 as pb

# Bytes of one download message; well below gRPC's default limit of 4 MiB.
_DOWNLOAD_CHUNK = 512 * 1024
_MAX_PAGE = 1000
_DEFAULT_PAGE = 100


class TrainingService(training_service_pb2_grpc.TrainingServiceServicer):
    """The API of protos/taas/v1/training_service.proto."""

    def __init__(
        self,
        store: JobStore,
        storage: Storage,
        history: History,
        logs: Logs,
        *,
        limits: Limits,
        info: pb.ServiceInfo,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._storage = storage
        self._history = history
        self._logs = logs
        self._limits = limits
        self._allowance = Allowance(limits.max_upload_bytes, time.monotonic)
        self._slices = Slices()
        self._info = info
        self._clock = clock

    async def CreateTrainingJob(
        self, request: pb.CreateTrainingJobRequest, context: Any
    ) -> job_pb2.TrainingJob:
        """Store a job; see the proto for what makes a repeated call safe."""
        job = parse.new_job(
            request, uid=str(uuid.uuid4()), now=self._clock(), max_workers=self._limits.max_workers
        )
        existing = await self._find(job.key)
        if existing is not None:
            return wire.job_to_wire(_same(existing, job))
        await quotas.check_room(self._store, self._limits, job)
        await self._check_source(job)
        await self._check_lender(job)
        if request.validate_only:
            return wire.job_to_wire(job)
        try:
            job = await self._store.create(job)
        except JobExists:
            # Somebody was faster; the same rules as above decide whether it was this request.
            job = _same(await self._store.get(job.key), job)
        return wire.job_to_wire(job)

    async def _check_source(self, job: Job) -> None:
        """Raise InvalidJob unless the job's source is where its workers will look for it."""
        source, claim = job.spec.source, job.spec.storage_claim
        if source is None:
            return
        if not await self._storage.has_source(job.key.namespace, claim, source.digest):
            raise InvalidJob(
                "trainingJob.spec.source.digest",
                f"{source.digest!r} was not uploaded to claim {claim!r} of this namespace; call "
                "UploadSource with that claim first",
            )

    async def _check_lender(self, job: Job) -> None:
        """Raise InvalidJob unless the job whose weights are wanted is where they can be read."""
        init = job.spec.init_from
        if init is None:
            return
        lender = await self._find(JobKey(job.key.namespace, init.job))
        if lender is None:
            raise InvalidJob(
                "trainingJob.spec.initFrom.job",
                f"{init.job!r} is no job of namespace {job.key.namespace}; name one that "
                "`taas list` shows",
            )
        if lender.spec.storage_claim != job.spec.storage_claim:
            raise InvalidJob(
                "trainingJob.spec.initFrom.job",
                f"{init.job!r} keeps its checkpoints on claim {lender.spec.storage_claim!r}; set "
                "storage.claimName to that",
            )

    async def GetTrainingJob(
        self, request: pb.GetTrainingJobRequest, context: Any
    ) -> job_pb2.TrainingJob:
        """Return a job."""
        return wire.job_to_wire(await self._store.get(parse_names.job_name(request.name, "name")))

    async def ListTrainingJobs(
        self, request: pb.ListTrainingJobsRequest, context: Any
    ) -> pb.ListTrainingJobsResponse:
        """Return a page of jobs."""
        if not 0 <= request.page_size <= _MAX_PAGE:
            raise InvalidJob("pageSize", f"{request.page_size} is not in 0..{_MAX_PAGE}")
        wanted = parse_filter.list_filter(request.parent, request.filter)
        size = request.page_size or _DEFAULT_PAGE
        page = await self._store.list(wanted, size, request.page_token)
        jobs = await self._slices.each(calling.get().name, wire.job_to_wire, page.jobs)
        return pb.ListTrainingJobsResponse(training_jobs=jobs, next_page_token=page.next_token)

    async def WatchTrainingJob(
        self, request: pb.WatchTrainingJobRequest, context: Any
    ) -> AsyncIterator[pb.WatchTrainingJobResponse]:
        """Stream a job's history."""
        job = await self._store.get(parse_names.job_name(request.name, "name"))
        cursor = WatchCursor(job.uid)
        if request.cursor and request.from_now:
            raise InvalidJob("fromNow", "does not go with a cursor; leave one of them out")
        if request.cursor:
            cursor = WatchCursor.decode(request.cursor, job.uid)
        elif request.from_now:
            cursor = await self._history.end(job)
        async for event in self._history.watch(job.key, cursor):
            yield pb.WatchTrainingJobResponse(event=event)

    async def StreamLogs(
        self, request: pb.StreamLogsRequest, context: Any
    ) -> AsyncIterator[pb.StreamLogsResponse]:
        """Stream what workers print."""
        job = await self._store.get(parse_names.job_name(request.name, "name"))
        indexes = self._log_indexes(job, request.worker)
        cursor = LogCursor(job.uid)
        if request.tail_lines < 0:
            raise InvalidJob("tailLines", f"{request.tail_lines} is negative; 0 means all")
        if request.cursor and request.tail_lines:
            raise InvalidJob("tailLines", "does not go with a cursor; leave one of them out")
        if request.cursor:
            cursor = LogCursor.decode(request.cursor, job.uid)
        elif request.tail_lines:
            cursor = await self._logs.tail(job, indexes, request.tail_lines)
        async for text in self._logs.read(job.key, indexes, cursor, follow=request.follow):
            yield pb.StreamLogsResponse(
                worker=text.worker,
                text=text.data.decode(errors="replace"),
                cursor=text.cursor.encode(),
            )

    async def ScaleTrainingJob(
        self, request: pb.ScaleTrainingJobRequest, context: Any
    ) -> job_pb2.TrainingJob:
        """Change the wanted number of workers."""
        workers, most = request.workers, self._limits.max_workers
        if not 1 <= workers <= most:
            raise InvalidJob("workers", f"{workers} is not in 1..{most}")

        def scaled(job: Job) -> Spec:
            # A job that was not elastic does not become so; an elastic one keeps its bound.
            spec = job.spec
            fixed = spec.min_workers == spec.workers
            least = workers if fixed else min(spec.min_workers, workers)
            return replace(spec, workers=workers, min_workers=least)

        job = await self._store.get(parse_names.job_name(request.name, "name"))
        if workers > job.spec.workers:
            wanted = replace(job, spec=scaled(job))
            await quotas.check_room(self._store, self._limits, wanted)
        return await self._change(request.name, scaled, "cannot be scaled", etag=request.etag)

    async def SuspendTrainingJob(
        self, request: pb.SuspendTrainingJobRequest, context: Any
    ) -> job_pb2.TrainingJob:
        """Hold a job."""
        return await self._change(
            request.name, lambda job: replace(job.spec, suspend=True), "cannot be suspended"
        )

    async def ResumeTrainingJob(
        self, request: pb.ResumeTrainingJobRequest, context: Any
    ) -> job_pb2.TrainingJob:
        """Let a held job go on, if asked to from an earlier step of its own."""
        if request.from_step:
            return await self._go_back(request.name, request.from_step)
        return await self._change(
            request.name, lambda job: replace(job.spec, suspend=False), "cannot be resumed"
        )

    async def CancelTrainingJob(
        self, request: pb.CancelTrainingJobRequest, context: Any
    ) -> job_pb2.TrainingJob:
        """Stop a job for good."""
        return await self._change(
            request.name, lambda job: replace(job.spec, cancel=True), "cannot be cancelled"
        )

    async def DeleteTrainingJob(
        self, request: pb.DeleteTrainingJobRequest, context: Any
    ) -> job_pb2.TrainingJob:
        """Ask for a job to be removed."""
        key = parse_names.job_name(request.name, "name")
        try:
            return wire.job_to_wire(await self._store.mark_deleting(key))
        except JobNotFound:
            if request.allow_missing:
                return job_pb2.TrainingJob()
            raise

    async def ListCheckpoints(
        self, request: pb.ListCheckpointsRequest, context: Any
    ) -> pb.ListCheckpointsResponse:
        """Return the committed checkpoints."""
        job = await self._store.get(parse_names.job_name(request.parent, "parent"))
        found = await self._storage.checkpoints(job)
        return pb.ListCheckpointsResponse(
            checkpoints=[wire.checkpoint_to_wire(checkpoint) for checkpoint in found]
        )

    async def ListFiles(self, request: pb.ListFilesRequest, context: Any) -> pb.ListFilesResponse:
        """Return the files of a checkpoint or of the output."""
        job = await self._store.get(parse_names.job_name(request.parent, "parent"))
        found = await self._storage.files(job, _checkpoint_of(request.artifact))
        return pb.ListFilesResponse(
            files=[pb.File(path=path, size_bytes=size) for path, size in found]
        )

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: Any
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        """Stream a file."""
        job = await self._store.get(parse_names.job_name(request.parent, "parent"))
        checkpoint, offset = _checkpoint_of(request.artifact), request.offset
        if offset < 0:
            raise InvalidJob("offset", f"{offset} is negative")
        while data := await self._storage.read_file(
            job, checkpoint, request.path, offset, _DOWNLOAD_CHUNK
        ):
            yield pb.DownloadFileResponse(data=data)
            offset += len(data)

    async def UploadSource(
        self, requests: AsyncIterator[pb.UploadSourceRequest], context: Any
    ) -> job_pb2.Source:
        """Receive a source archive; one that is here already is not received again."""
        first = await anext(requests, pb.UploadSourceRequest())
        if not first.HasField("header"):
            raise InvalidJob("header", "is missing; the first message names the source")
        namespace = parse_names.parent(first.header.parent, "header.parent")
        source = parse_spec.source_from_wire(first.header.source, "header.source")
        most = self._limits.max_source_bytes
        if source.size_bytes > most:
            raise LimitExceeded(
                "header.source.sizeBytes",
                f"{source.size_bytes} bytes are more than the {most} that a source may have; "
                "put data on the shared storage, or list it in .taasignore",
            )
        claim = parse_names.claim(first.header.claim_name, "header.claimName")
        if not await self._storage.has_source(namespace, claim, source.digest):
            self._allowance.take(calling.get().name, source.size_bytes)
            writer = self._storage.open_source(namespace, claim, source.digest, source.size_bytes)
            await _receive(writer, first, requests)
        return first.header.source

    async def GetServiceInfo(
        self, request: pb.GetServiceInfoRequest, context: Any
    ) -> pb.ServiceInfo:
        """Say what this service is."""
        return self._info

    async def _find(self, key: JobKey) -> Job | None:
        try:
            return await self._store.get(key)
        except JobNotFound:
            return None

    async def _change(
        self, name: str, change: Callable[[Job], Spec], refusal: str, *, etag: str = ""
    ) -> job_pb2.TrainingJob:
        """Read, change and write back a spec until nobody else wrote in between."""
        key = parse_names.job_name(name, "name")
        while True:
            job = await self._store.get(key)
            if etag and etag != job.version:
                raise WrongState(
                    name, f"{refusal}: it changed since etag {etag!r}; get it and try again"
                )
            spec = change(job)
            if spec == job.spec:
                return wire.job_to_wire(job)
            if job.status.phase.final:
                raise WrongState(name, f"{refusal}: it is {job.status.phase.value.lower()}")
            if job.deleting is not None or job.spec.cancel:
                raise WrongState(name, f"{refusal}: it is being stopped")
            try:
                return wire.job_to_wire(await self._store.put_spec(job, spec))
            except Conflict:
                continue

    async def _go_back(self, name: str, step: int) -> job_pb2.TrainingJob:
        """Let a held job go on from the checkpoint of a step. Raises InvalidJob if it has none,
        and WrongState if the job might remove it meanwhile."""
        seen = await self._store.get(parse_names.job_name(name, "name"))
        if _goes_back(seen, step):
            return wire.job_to_wire(seen)
        _check_held(seen, name, step)
        await self._check_step(seen, step)

        def sent_back(job: Job) -> Spec:
            if _goes_back(job, step):
                return job.spec
            # Storage may have taken half a minute to answer.
            _check_held(job, name, step)
            if (job.uid, job.status.generation) != (seen.uid, seen.status.generation):
                raise WrongState(
                    name,
                    f"cannot go back to step {step}: it went on while its checkpoints were looked "
                    "at; choose a step of `taas checkpoints` again",
                )
            return replace(job.spec, suspend=False, rewind=Rewind(step, job.status.generation))

        return await self._change(name, sent_back, "cannot be resumed")

    async def _check_step(self, job: Job, step: int) -> None:
        """Raise InvalidJob unless the job has a checkpoint of that step."""
        steps = sorted({c.step for c in await self._storage.checkpoints(job)})
        if step not in steps:
            there = ", ".join(map(str, steps[-10:])) or "it has none"
            raise InvalidJob(
                "fromStep", f"{step} is the step of no checkpoint; its newest are: {there}"
            )

    def _log_indexes(self, job: Job, worker: int) -> range:
        # A job that was scaled down keeps the logs of the workers it had.
        most = max(job.spec.workers, max(job.status.members, default=-1) + 1)
        if worker == -1:
            return range(most)
        if worker == EVALUATOR and job.spec.evaluator:
            return range(worker, worker + 1)
        if not 0 <= worker < most:
            raise InvalidJob("worker", f"{worker} is not in 0..{most - 1}; -1 means all")
        return range(worker, worker + 1)


def _same(existing: Job, new: Job) -> Job:
    """Return the existing job if the request that made it is being repeated."""
    if parse.same_request(existing, new):
        return existing
    raise JobExists(wire.resource_name(existing.key))


def _goes_back(job: Job, step: int) -> bool:
    """Say whether a job was let go on from that step already, and no generation came after the
    one that begins there: then the call is one whose answer was lost."""
    rewind, generation = job.spec.rewind, job.status.generation
    if job.spec.suspend or rewind is None or rewind.step != step:
        return False
    return rewind.generation in (generation, generation - 1)


def _check_held(job: Job, name: str, step: int) -> None:
    """Raise WrongState unless a job is suspended and to stay so: one that runs may remove the
    checkpoint of that step."""
    phase = job.status.phase
    if phase is Phase.SUSPENDED and job.spec.suspend:
        return
    state = "being resumed" if phase is Phase.SUSPENDED else phase.value.lower()
    raise WrongState(
        name,
        f"cannot go back to step {step}: it is {state}; suspend it first, and choose a step of "
        "`taas checkpoints` then",
    )


def _checkpoint_of(artifact: pb.Artifact) -> str | None:
    """Return the checkpoint's id, or None for the output folder."""
    match artifact.WhichOneof("kind"):
        case "checkpoint":
            return artifact.checkpoint
        case "output":
            return None
    raise InvalidJob("artifact", "is missing; set checkpoint to an id, or output to true")


async def _receive(
    writer: SourceWriter,
    first: pb.UploadSourceRequest,
    requests: AsyncIterator[pb.UploadSourceRequest],
) -> None:
    try:
        await writer.write(first.data)
        async for request in requests:
            await writer.write(request.data)
        await writer.commit()
    except BaseException:
        await writer.abort()
        raise
