"""A training service for tests: behaves as the contract's comments say, trains nothing.

Jobs play a script of events. It keeps what it acknowledged in a file, so that it can be killed
and started again: `python -m tests.client.double --home DIR --socket PATH`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, json_format
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from protos.taas.v1 import training_service_pb2 as wire
from protos.taas.v1.history_pb2 import Event
from protos.taas.v1.job_pb2 import (
    Phase,
    Source,
    TrainingJob,
    TrainingJobStatus,
    WorkerState,
    WorkerStatus,
)
from protos.taas.v1.training_service_pb2_grpc import (
    TrainingServiceServicer,
    add_TrainingServiceServicer_to_server,
)
from tests.client.events import scripted, state

START = 1_767_225_600  # 2026-01-01T00:00:00Z
FINAL = (Phase.PHASE_SUCCEEDED, Phase.PHASE_FAILED, Phase.PHASE_CANCELLED)
OUTPUT = {
    "model/saved_model.pb": b"model" * 1000,
    "model/variables/v": b"x" * 70_000,
    "model.json": b"{}",
    "log": b"",
}


@dataclass
class Held:
    """What the double knows of one job."""

    job: TrainingJob
    request_id: str
    events: list[Event]
    # How many of the events have happened.
    shown: int = 0
    logs: list[tuple[int, str]] = field(default_factory=list)
    output: dict[str, bytes] = field(default_factory=lambda: dict(OUTPUT))

    @property
    def final(self) -> bool:
        return self.job.status.phase in FINAL


class Double(TrainingServiceServicer):
    """The service. Tests reach into `jobs`, and set faults before they call."""

    def __init__(
        self,
        *,
        script: str = "",
        home: Path | None = None,
        pause_s: float = 0.01,
        die_at_step: int = 0,
    ) -> None:
        self.jobs: dict[str, Held] = {}
        self.sources: dict[str, int] = {}
        self.calls: list[tuple[str, Any]] = []
        # Codes that the next calls of a method end with.
        self.faults: dict[str, list[grpc.StatusCode]] = {}
        # Streams of a method break off after so many answers; one entry a stream.
        self.breaks: dict[str, list[int]] = {}
        self.break_code = grpc.StatusCode.UNAVAILABLE
        self.max_source_bytes = 512 << 20
        self.changed = threading.Condition()
        self.script = script
        self._file = home / "double.json" if home else None
        self._home = home
        self._pause_s = pause_s
        self._die_at_step = die_at_step
        self._stopping = threading.Event()
        self._load()

    # --- what tests and scripts do -------------------------------------------------------------

    def emit(self, name: str, *events: Event) -> None:
        """Let events happen to a job."""
        with self.changed:
            held = self.jobs[name]
            held.events[held.shown : held.shown] = [
                _numbered(held, e, i) for i, e in enumerate(events)
            ]
            for _ in events:
                self._happen(held)

    def play(self) -> None:
        """Let every event of every script happen, one after the other, until stopped."""
        while not self._stopping.wait(self._pause_s):
            with self.changed:
                for held in self.jobs.values():
                    if held.shown < len(held.events) and not held.final:
                        self._happen(held)

    def stop(self) -> None:
        """End `play` and open streams."""
        self._stopping.set()
        with self.changed:
            self.changed.notify_all()

    def _happen(self, held: Held) -> None:
        event = held.events[held.shown]
        held.shown += 1
        _apply(held.job.status, event)
        self._save()
        self.changed.notify_all()
        if self._die_at_step and event.record.progress.step == self._die_at_step:
            os.kill(os.getpid(), signal.SIGKILL)

    def _save(self) -> None:
        if self._file is None:
            return
        plain = {
            name: {
                "job": json_format.MessageToDict(held.job),
                "request_id": held.request_id,
                "events": [json_format.MessageToDict(event) for event in held.events],
                "shown": held.shown,
            }
            for name, held in self.jobs.items()
        }
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(plain))
        fresh.replace(self._file)

    def _load(self) -> None:
        if self._file is None or not self._file.exists():
            return
        for name, plain in json.loads(self._file.read_text()).items():
            self.jobs[name] = Held(
                job=json_format.ParseDict(plain["job"], TrainingJob()),
                request_id=plain["request_id"],
                events=[json_format.ParseDict(event, Event()) for event in plain["events"]],
                shown=plain["shown"],
            )

    def _enter(self, method: str, request: Any, context: Any) -> None:
        self.calls.append((method, request))
        if self.faults.get(method):
            context.abort(self.faults[method].pop(0), "a fault of the test")

    def _held(self, name: str, context: Any) -> Held:
        if name not in self.jobs:
            refuse(
                context,
                code_pb2.NOT_FOUND,
                f"{name} does not exist; `taas list` shows what does",
                error_details_pb2.ResourceInfo(resource_name=name),
            )
        return self.jobs[name]

    # --- the contract --------------------------------------------------------------------------

    def GetServiceInfo(self, request: Any, context: Any) -> wire.ServiceInfo:
        self._enter("GetServiceInfo", request, context)
        return wire.ServiceInfo(
            version="0.0-double",
            backend="local",
            max_source_bytes=self.max_source_bytes,
            max_workers=32,
            pid=os.getpid(),
            home=str(self._home or ""),
        )

    def CreateTrainingJob(self, request: Any, context: Any) -> TrainingJob:
        self._enter("CreateTrainingJob", request, context)
        spec = request.training_job.spec
        if spec.workers < 1:
            invalid(context, "trainingJob.spec.workers", f"{spec.workers} is not in 1..32")
        if spec.source.digest not in self.sources:
            invalid(context, "trainingJob.spec.source.digest", "was not uploaded")
        name = f"{request.parent}/trainingJobs/{request.training_job_id}"
        with self.changed:
            held = self.jobs.get(name)
            if held is not None:
                if held.request_id == request.request_id and held.job.spec == spec:
                    return held.job
                refuse(
                    context,
                    code_pb2.ALREADY_EXISTS,
                    f"{name} exists with another spec",
                    error_details_pb2.ResourceInfo(resource_name=name),
                )
            job = TrainingJob(
                name=name,
                uid=hashlib.sha256(name.encode()).hexdigest()[:8],
                create_time=Timestamp(seconds=START + len(self.jobs)),
                etag="1",
                labels=request.training_job.labels,
                spec=spec,
                status=TrainingJobStatus(
                    phase=Phase.PHASE_PENDING,
                    workers=[
                        WorkerStatus(index=i, state=WorkerState.WORKER_STATE_PENDING)
                        for i in range(spec.workers)
                    ],
                ),
            )
            if request.validate_only:
                return job
            held = Held(job, request.request_id, [])
            held.events = [
                _numbered(held, e, i) for i, e in enumerate(scripted(self.script, spec.workers))
            ]
            held.logs = [(i, f"line {n} of {i}\n") for n in range(3) for i in range(spec.workers)]
            self.jobs[name] = held
            self._save()
            return job

    def GetTrainingJob(self, request: Any, context: Any) -> TrainingJob:
        self._enter("GetTrainingJob", request, context)
        return self._held(request.name, context).job

    def ListTrainingJobs(self, request: Any, context: Any) -> wire.ListTrainingJobsResponse:
        self._enter("ListTrainingJobs", request, context)
        jobs = [held.job for held in reversed(self.jobs.values())]
        if request.parent != "namespaces/-":
            jobs = [job for job in jobs if job.name.startswith(f"{request.parent}/")]
        for term in filter(None, request.filter.split(" AND ")):
            key, _, value = term.partition("=")
            if key == "phase":
                jobs = [job for job in jobs if Phase.Name(job.status.phase) == f"PHASE_{value}"]
            else:
                label = key.removeprefix("labels.")
                jobs = [job for job in jobs if job.labels.get(label) == value]
        begin, size = int(request.page_token or 0), request.page_size or 100
        more = begin + size < len(jobs)
        return wire.ListTrainingJobsResponse(
            training_jobs=jobs[begin : begin + size],
            next_page_token=str(begin + size) if more else "",
        )

    def WatchTrainingJob(self, request: Any, context: Any) -> Iterator[Any]:
        self._enter("WatchTrainingJob", request, context)
        held = self._held(request.name, context)
        position = held.shown if request.from_now else 0
        if request.cursor:
            uid, _, number = request.cursor.partition(":")
            if uid != held.job.uid:
                invalid(context, "cursor", f"{request.cursor!r} belongs to another job")
            position = int(number)
        left = self.breaks["WatchTrainingJob"].pop(0) if self.breaks.get("WatchTrainingJob") else -1
        context.add_callback(self._wake)
        while True:
            with self.changed:
                while position >= held.shown:
                    if held.final:
                        return
                    if self._stopping.is_set():
                        context.abort(grpc.StatusCode.UNAVAILABLE, "the service is going down")
                    if not context.is_active():
                        return
                    self.changed.wait(5)
                event = held.events[position]
            if left == 0:
                context.abort(self.break_code, "a fault of the test")
            left -= 1
            position += 1
            yield wire.WatchTrainingJobResponse(event=event)

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def StreamLogs(self, request: Any, context: Any) -> Iterator[Any]:
        self._enter("StreamLogs", request, context)
        held = self._held(request.name, context)
        if request.cursor and request.tail_lines:
            invalid(context, "tailLines", "does not go with a cursor")
        pieces = [
            (number, worker, text)
            for number, (worker, text) in enumerate(held.logs, start=1)
            if request.worker in (-1, worker)
        ]
        if request.tail_lines:
            pieces = pieces[-request.tail_lines :]
        left = self.breaks["StreamLogs"].pop(0) if self.breaks.get("StreamLogs") else -1
        for number, worker, text in pieces:
            if number <= int(request.cursor or 0):
                continue
            if left == 0:
                context.abort(self.break_code, "a fault of the test")
            left -= 1
            yield wire.StreamLogsResponse(worker=worker, text=text, cursor=str(number))

    def ScaleTrainingJob(self, request: Any, context: Any) -> TrainingJob:
        self._enter("ScaleTrainingJob", request, context)
        held = self._changeable(request.name, context)
        held.job.spec.workers = request.workers
        return held.job

    def SuspendTrainingJob(self, request: Any, context: Any) -> TrainingJob:
        self._enter("SuspendTrainingJob", request, context)
        held = self._changeable(request.name, context)
        held.job.spec.suspend = True
        return held.job

    def ResumeTrainingJob(self, request: Any, context: Any) -> TrainingJob:
        self._enter("ResumeTrainingJob", request, context)
        held = self._changeable(request.name, context)
        held.job.spec.suspend = False
        return held.job

    def CancelTrainingJob(self, request: Any, context: Any) -> TrainingJob:
        self._enter("CancelTrainingJob", request, context)
        held = self._changeable(request.name, context)
        held.job.spec.cancel = True
        self.emit(request.name, state(held.job.status.phase, Phase.PHASE_CANCELLED))
        return held.job

    def _changeable(self, name: str, context: Any) -> Held:
        held = self._held(name, context)
        if held.final:
            refuse(context, code_pb2.FAILED_PRECONDITION, f"{name} is final")
        return held

    def DeleteTrainingJob(self, request: Any, context: Any) -> TrainingJob:
        self._enter("DeleteTrainingJob", request, context)
        if request.allow_missing and request.name not in self.jobs:
            return TrainingJob()
        held = self._held(request.name, context)
        with self.changed:
            del self.jobs[request.name]
            self._save()
        return held.job

    def ListCheckpoints(self, request: Any, context: Any) -> wire.ListCheckpointsResponse:
        self._enter("ListCheckpoints", request, context)
        held = self._held(request.parent, context)
        found = [e.record.checkpoint for e in held.events[: held.shown] if _is_checkpoint(e)]
        return wire.ListCheckpointsResponse(checkpoints=reversed(found))

    def ListFiles(self, request: Any, context: Any) -> wire.ListFilesResponse:
        self._enter("ListFiles", request, context)
        held = self._held(request.parent, context)
        return wire.ListFilesResponse(
            files=[wire.File(path=p, size_bytes=len(d)) for p, d in sorted(held.output.items())]
        )

    def DownloadFile(self, request: Any, context: Any) -> Iterator[wire.DownloadFileResponse]:
        self._enter("DownloadFile", request, context)
        data = self._held(request.parent, context).output[request.path][request.offset :]
        left = self.breaks["DownloadFile"].pop(0) if self.breaks.get("DownloadFile") else -1
        for begin in range(0, len(data), 10_000):
            if left == 0:
                context.abort(self.break_code, "a fault of the test")
            left -= 1
            yield wire.DownloadFileResponse(data=data[begin : begin + 10_000])

    def UploadSource(self, requests: Iterator[Any], context: Any) -> Source:
        first = next(requests)
        self._enter("UploadSource", first, context)
        source: Source = first.header.source
        if source.digest not in self.sources:
            digest, size = hashlib.sha256(), 0
            for request in requests:
                digest.update(request.data)
                size += len(request.data)
            if (digest.hexdigest(), size) != (source.digest, source.size_bytes):
                invalid(context, "source.digest", "is not the digest of what came")
            self.sources[source.digest] = size
        return source


def invalid(context: Any, field: str, why: str) -> NoReturn:
    """End a call with INVALID_ARGUMENT that names the field."""
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=why)
    detail = error_details_pb2.BadRequest(field_violations=[violation])
    refuse(context, code_pb2.INVALID_ARGUMENT, f"{field}: {why}", detail)


def refuse(context: Any, code: int, message: str, *details: Any) -> NoReturn:
    """End a call with a google.rpc status."""
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=code, message=message, details=packed)
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status does not return")


def _numbered(held: Held, event: Event, ahead: int) -> Event:
    number = held.shown + ahead + 1
    copy = Event(cursor=f"{held.job.uid}:{number}", time=Timestamp(seconds=START + number))
    copy.MergeFrom(event)
    return copy


def _apply(status: TrainingJobStatus, event: Event) -> None:
    match event.WhichOneof("kind"):
        case "state":
            status.phase = event.state.to
            status.generation = event.state.generation
            if event.state.HasField("failure"):
                status.last_failure.CopyFrom(event.state.failure)
            if not status.start_time.seconds:
                status.start_time.CopyFrom(event.time)
            if event.state.to in FINAL:
                status.completion_time.CopyFrom(event.time)
            status.restarts += event.state.to == Phase.PHASE_RESTARTING
        case "worker":
            status.workers[event.worker.index].state = event.worker.to
        case "record" if event.record.HasField("progress"):
            status.progress.CopyFrom(event.record.progress)
        case "record" if event.record.HasField("checkpoint"):
            status.last_checkpoint.CopyFrom(event.record.checkpoint)


def _is_checkpoint(event: Event) -> bool:
    return event.WhichOneof("kind") == "record" and event.record.HasField("checkpoint")


@dataclass
class Running:
    """A double that listens on a unix socket; the jobs outlive a restart of the listening."""

    double: Double
    socket: Path
    server: Any = dataclasses.field(init=False, default=None)

    @property
    def target(self) -> str:
        return f"unix:{self.socket}"

    def up(self) -> None:
        """Listen."""
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        add_TrainingServiceServicer_to_server(self.double, self.server)
        self.server.add_insecure_port(self.target)
        self.server.start()

    def down(self) -> None:
        """Break off all calls and stop listening."""
        self.server.stop(0).wait()


def main() -> None:
    """Be the service of a state folder until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--stop-workers", action="store_true")
    args = parser.parse_args()
    if args.stop_workers:
        (args.home / "workers-stopped").touch()
        return
    settings = args.home / "double-settings.json"
    double = Double(
        home=args.home, **(json.loads(settings.read_text()) if settings.exists() else {})
    )
    # Waited for below, in a thread that holds no lock when it comes.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    running = Running(double, args.socket)
    running.up()
    playing = threading.Thread(target=double.play)
    playing.start()
    (args.home / "double.pid").write_text(str(os.getpid()))
    signal.sigwait({signal.SIGTERM})
    double.stop()
    playing.join()
    running.down()


if __name__ == "__main__":
    main()
