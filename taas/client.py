"""The Python client of the training service. Synchronous, thread-safe, needs no TensorFlow."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc

from protos import keepalive
from protos.taas.v1 import training_service_pb2 as wire
from protos.taas.v1.history_pb2 import Event
from protos.taas.v1.job_pb2 import Checkpoint, Source, TrainingJob, TrainingJobSpec
from protos.taas.v1.training_service_pb2_grpc import TrainingServiceStub
from taas import download as downloads
from taas import names, pack, programs, streams
from taas.access import Access
from taas.errors import InvalidRequest, NotFound, ServiceUnavailable, TimedOut, from_rpc
from taas.location import default_target

_Answer = TypeVar("_Answer")

# Two of the largest messages that the contract allows for files (1 MiB) would do; jobs with many
# labels and parameters in a page of 1000 need more.
_MAX_MESSAGE_BYTES = 16 << 20
_UPLOAD_CHUNK_BYTES = 512 << 10
# A slow uplink; below it an upload counts as stuck.
_SLOWEST_UPLOAD_BYTES_PER_S = 64 << 10

# Told "packing" or "uploading" with bytes done and bytes in all.
SubmitProgress = Callable[[str, int, int], None]
# Told why the service was lost, each time before a stream is opened again.
OnLost = Callable[[ServiceUnavailable], None]
# Told once that a stream which was lost gets answers again.
OnBack = Callable[[], None]


class Client:
    """Calls one training service.

    Jobs are named "name" (in this client's namespace), "namespace/name" or by resource name.
    Every method raises a TaasError. Calls that are safe to repeat are tried again for
    `retry_for_s` while the service is unavailable; each try may take `timeout_s`.
    """

    def __init__(
        self,
        target: str | None = None,
        namespace: str = "default",
        *,
        access: Access | None = None,
        timeout_s: float = 30.0,
        retry_for_s: float = 5.0,
    ) -> None:
        """Connect to a gRPC target (host:port or unix:PATH); by default to $TAAS_TARGET, else
        to this user's service on this machine. Nothing is sent before the first call.

        host:port is called with TLS; `access` says with which token and certificates, by default
        as $TAAS_TOKEN_FILE, $TAAS_CA_FILE and $TAAS_SERVER_NAME have it."""
        self.target = target or default_target()
        self.namespace = namespace
        self._timeout_s = timeout_s
        self._retry_for_s = retry_for_s
        self._closed = threading.Event()
        access = access or Access.of(os.environ)
        self._channel = access.channel(self.target, _channel_options(self.target))
        self._stub = TrainingServiceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; streams that are open end. Safe to call twice."""
        self._closed.set()
        self._channel.close()

    def service_info(self) -> wire.ServiceInfo:
        """Return what the service is and what it allows."""
        return self._call(wire.ServiceInfo, self._stub.GetServiceInfo, wire.GetServiceInfoRequest())

    def create(
        self,
        job_id: str,
        spec: TrainingJobSpec,
        *,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        validate_only: bool = False,
    ) -> TrainingJob:
        """Create a job whose source is uploaded already; returned once it is stored.

        Sending the same again with the same request_id returns the same job; without one this
        method makes one for its own repeated tries.
        """
        space, name = names.split_name(names.resource_name(job_id, self.namespace))
        request = wire.CreateTrainingJobRequest(
            parent=f"namespaces/{space}",
            training_job_id=name,
            training_job=TrainingJob(spec=spec, labels=labels),
            request_id=request_id or uuid.uuid4().hex,
            validate_only=validate_only,
        )
        return self._call(TrainingJob, self._stub.CreateTrainingJob, request)

    def upload(
        self,
        source: str | os.PathLike[str],
        *,
        namespace: str | None = None,
        claim: str = "",
        progress: SubmitProgress | None = None,
    ) -> Source:
        """Pack a folder or one Python file and upload it; see pack for what is left out.

        `claim` is the spec.storage.claimName of the jobs that will use it.
        """
        limit = self.service_info().max_source_bytes or pack.MAX_ARCHIVE_BYTES
        packing = None if progress is None else _stage(progress, "packing")
        with pack.pack(Path(source), max_bytes=limit, progress=packing) as packed:
            header = wire.UploadSourceHeader(
                parent=f"namespaces/{namespace or self.namespace}",
                source=Source(digest=packed.digest, size_bytes=packed.size_bytes),
                claim_name=claim,
            )
            uploading = None if progress is None else _stage(progress, "uploading")

            def send(_: None, timeout: float) -> Any:
                # The service may answer before it has read everything: it has this content.
                messages = _upload_messages(header, packed.path, uploading)
                return self._stub.UploadSource(messages, timeout=timeout)

            seconds = self._timeout_s + packed.size_bytes / _SLOWEST_UPLOAD_BYTES_PER_S
            return self._call(Source, send, None, timeout_s=seconds)

    def submit(
        self,
        source: str | os.PathLike[str],
        *,
        name: str,
        workers: int | None = None,
        parameters: Mapping[str, object] | None = None,
        module: str = "",
        script: str = "",
        arguments: Sequence[str] = (),
        distribute: bool = False,
        command: Sequence[str] = (),
        spec: TrainingJobSpec | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        validate_only: bool = False,
        progress: SubmitProgress | None = None,
    ) -> TrainingJob:
        """Pack and upload a folder (or one Python file) and create a job that runs it.

        It runs as a task (`module`), a script (`script` with `arguments`; `distribute` spreads
        its fit over the workers) or a `command`. Where nothing says which, a folder holds a
        task.py, and a file is a task if it defines one, else a script. `spec` is the base; the
        other arguments go over it.
        """
        path = Path(source)
        wanted = TrainingJobSpec()
        if spec is not None:
            wanted.CopyFrom(spec)
        if command and (script or arguments):
            raise InvalidRequest.of("command", "has its arguments in itself; name no script")
        words = tuple(command or arguments) or None
        wish = programs.Wish(module=module, script=script, words=words, distribute=distribute)
        programs.choose(wanted, path, wish)
        if workers is not None:
            wanted.workers = workers
        elif not wanted.workers:
            wanted.workers = 1
        wanted.parameters.update({key: str(value) for key, value in (parameters or {}).items()})
        space, _ = names.split_name(names.resource_name(name, self.namespace))
        claim = wanted.storage.claim_name
        wanted.source.CopyFrom(self.upload(path, namespace=space, claim=claim, progress=progress))
        return self.create(
            name, wanted, labels=labels, request_id=request_id, validate_only=validate_only
        )

    def get(self, name: str) -> TrainingJob:
        """Return a job."""
        return self._call(
            TrainingJob, self._stub.GetTrainingJob, wire.GetTrainingJobRequest(name=self._n(name))
        )

    def list(
        self, *, namespace: str | None = None, filter: str = "", page_size: int = 0
    ) -> Iterator[TrainingJob]:
        """Yield jobs, newest first, page by page; namespace "-" means all of them.

        `filter` is as in the contract, for example "phase=RUNNING AND labels.team=vision".
        """
        request = wire.ListTrainingJobsRequest(
            parent=f"namespaces/{namespace or self.namespace}", filter=filter, page_size=page_size
        )
        while True:
            page = self._call(wire.ListTrainingJobsResponse, self._stub.ListTrainingJobs, request)
            yield from page.training_jobs
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch(
        self,
        name: str,
        *,
        cursor: str = "",
        from_now: bool = False,
        reconnect_for_s: float = 60.0,
        on_lost: OnLost | None = None,
        on_back: OnBack | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Event]:
        """Yield a job's history from the cursor on, then what happens, until it is final.

        When the service goes away the stream is opened again after the last event seen, so each
        event comes once; ServiceUnavailable is raised when it stays away for reconnect_for_s.
        on_lost is told of each try, on_back once when answers come again; what they raise ends
        the watch. TimedOut is raised when timeout_s are over.
        """
        request = wire.WatchTrainingJobRequest(name=self._n(name), cursor=cursor, from_now=from_now)

        def accept(answer: wire.WatchTrainingJobResponse) -> Event | None:
            request.cursor = answer.event.cursor
            request.from_now = False
            # An event without a kind says only where the stream stands.
            return answer.event if answer.event.WhichOneof("kind") else None

        retry = streams.Retry(
            self.target, self._closed, reconnect_for_s, on_lost, timeout_s, on_back
        )
        return streams.resumed(self._stub.WatchTrainingJob, request, accept, retry)

    def logs(
        self,
        name: str,
        *,
        worker: int = -1,
        follow: bool = False,
        tail_lines: int = 0,
        cursor: str = "",
        reconnect_for_s: float = 60.0,
        on_lost: OnLost | None = None,
        on_back: OnBack | None = None,
    ) -> Iterator[wire.StreamLogsResponse]:
        """Yield what workers print (-1: all of them), each piece once; reconnects as watch."""
        request = wire.StreamLogsRequest(
            name=self._n(name), worker=worker, follow=follow, tail_lines=tail_lines, cursor=cursor
        )

        def accept(answer: wire.StreamLogsResponse) -> wire.StreamLogsResponse:
            request.cursor = answer.cursor
            if answer.cursor:
                request.tail_lines = 0
            return answer

        retry = streams.Retry(self.target, self._closed, reconnect_for_s, on_lost, None, on_back)
        return streams.resumed(self._stub.StreamLogs, request, accept, retry)

    def wait(
        self, name: str, timeout_s: float | None = None, *, reconnect_for_s: float = 60.0
    ) -> TrainingJob:
        """Return the job once it is final. Raises TimedOut after timeout_s."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not names.is_final((job := self.get(name)).status.phase):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                phase = names.phase_name(job.status.phase)
                raise TimedOut(f"{name} is still {phase} after {timeout_s:g} s")
            try:
                # Only the end of the stream counts: it ends when the job is final.
                for _ in self.watch(
                    name, from_now=True, reconnect_for_s=reconnect_for_s, timeout_s=left
                ):
                    pass
            except TimedOut:
                continue
        return job

    def scale(self, name: str, workers: int, *, etag: str = "") -> TrainingJob:
        """Change the wanted number of workers; with an etag only if the job still has it."""
        request = wire.ScaleTrainingJobRequest(name=self._n(name), workers=workers, etag=etag)
        # With an etag the repeated call would be refused because the first one worked.
        return self._call(TrainingJob, self._stub.ScaleTrainingJob, request, retry=not etag)

    def suspend(self, name: str) -> TrainingJob:
        """Let the job save, stop its workers and hold it."""
        request = wire.SuspendTrainingJobRequest(name=self._n(name))
        return self._call(TrainingJob, self._stub.SuspendTrainingJob, request)

    def resume(self, name: str, *, from_step: int = 0) -> TrainingJob:
        """Let a suspended job go on from where it was saved, or from the checkpoint of an earlier
        step; what it made after that is made anew."""
        request = wire.ResumeTrainingJobRequest(name=self._n(name), from_step=from_step)
        return self._call(TrainingJob, self._stub.ResumeTrainingJob, request)

    def cancel(self, name: str) -> TrainingJob:
        """Stop a job for good; its history, checkpoints and output stay."""
        request = wire.CancelTrainingJobRequest(name=self._n(name))
        return self._call(TrainingJob, self._stub.CancelTrainingJob, request)

    def delete(self, name: str, *, allow_missing: bool = False) -> TrainingJob:
        """Stop a job and remove it with all its files; returns once that is decided."""
        request = wire.DeleteTrainingJobRequest(name=self._n(name), allow_missing=allow_missing)
        # The repeated call might find nothing because the first one worked.
        return self._call(TrainingJob, self._stub.DeleteTrainingJob, request, retry=allow_missing)

    def checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        """Return the committed checkpoints, newest first."""
        request = wire.ListCheckpointsRequest(parent=self._n(name))
        return tuple(
            self._call(
                wire.ListCheckpointsResponse, self._stub.ListCheckpoints, request
            ).checkpoints
        )

    def files(self, name: str, checkpoint: str = "") -> tuple[wire.File, ...]:
        """Return the files of a checkpoint, or of the job's output if none is named."""
        request = wire.ListFilesRequest(parent=self._n(name), artifact=_artifact(checkpoint))
        answer = self._call(wire.ListFilesResponse, self._stub.ListFiles, request)
        return tuple(answer.files)

    def download(
        self,
        name: str,
        folder: str | os.PathLike[str],
        *,
        checkpoint: str = "",
        only: Sequence[str] = (),
        reconnect_for_s: float = 60.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Path, ...]:
        """Download a checkpoint, or the job's output if none is named, into a folder.

        `only` picks files and subfolders ("model", "model.json"). Files appear in the folder once
        all of them are complete; a download that was broken off goes on where it was. `progress`
        is told bytes done and bytes in all, by several threads, one at a time. Returns the files.
        """
        job = self.get(name)
        files = tuple(
            file
            for file in self.files(name, checkpoint)
            if not only or any(f"{file.path}/".startswith(f"{wanted}/") for wanted in only)
        )
        if not files:
            what = f"checkpoint {checkpoint}" if checkpoint else "output"
            raise NotFound(f"the {what} of {name} holds no {' or '.join(only) or 'files'}")
        stopped = threading.Event()

        def open_file(path: str, offset: int) -> Iterator[bytes]:
            request = wire.DownloadFileRequest(
                parent=job.name, artifact=_artifact(checkpoint), path=path, offset=offset
            )
            return self._read(request, stopped, reconnect_for_s)

        # What a running job writes may be another file tomorrow.
        lasting = bool(checkpoint) or names.is_final(job.status.phase)
        staging = f".taas-partial-{job.uid}-{checkpoint or 'output'}"
        return downloads.fetch_tree(
            files,
            Path(folder),
            open_file,
            stopped,
            staging=staging,
            resume=lasting,
            progress=progress,
        )

    def read(
        self, name: str, path: str, *, offset: int = 0, reconnect_for_s: float = 60.0
    ) -> Iterator[bytes]:
        """Yield the bytes of a file of the job's output, from an offset on to its present end."""
        request = wire.DownloadFileRequest(
            parent=self._n(name), artifact=_artifact(""), path=path, offset=offset
        )
        return self._read(request, self._closed, reconnect_for_s)

    def _read(
        self, request: wire.DownloadFileRequest, stopped: threading.Event, reconnect_for_s: float
    ) -> Iterator[bytes]:
        def accept(answer: wire.DownloadFileResponse) -> bytes:
            request.offset += len(answer.data)
            return answer.data

        retry = streams.Retry(self.target, stopped, reconnect_for_s, None, None)
        return streams.resumed(self._stub.DownloadFile, request, accept, retry)

    def _n(self, name: str) -> str:
        return names.resource_name(name, self.namespace)

    def _call(
        self,
        kind: type[_Answer],
        method: Callable[..., Any],
        request: object,
        *,
        retry: bool = True,
        timeout_s: float | None = None,
    ) -> _Answer:
        """Call, translate errors, and try again while the service is unavailable."""
        backoff = streams.Backoff(self._retry_for_s if retry else 0)
        while True:
            try:
                answer = method(request, timeout=timeout_s or self._timeout_s)
                assert isinstance(answer, kind)
                return answer
            except grpc.RpcError as error:
                ours = from_rpc(error, target=self.target)
                if not isinstance(ours, ServiceUnavailable):
                    raise ours from error
                pause_s = backoff.next_pause_s(ours.retry_after_s)
                if pause_s is None or self._closed.wait(pause_s):
                    raise ours from error
            except ValueError as error:  # what grpc raises on a closed channel
                raise ServiceUnavailable("this client is closed; make a new one") from error


def _artifact(checkpoint: str) -> wire.Artifact:
    return wire.Artifact(checkpoint=checkpoint) if checkpoint else wire.Artifact(output=True)


def _stage(progress: SubmitProgress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _upload_messages(
    header: wire.UploadSourceHeader, path: Path, progress: Callable[[int, int], None] | None
) -> Iterator[wire.UploadSourceRequest]:
    yield wire.UploadSourceRequest(header=header)
    done = 0
    with path.open("rb") as archive:
        while data := archive.read(_UPLOAD_CHUNK_BYTES):
            yield wire.UploadSourceRequest(data=data)
            done += len(data)
            if progress is not None:
                progress(done, header.source.size_bytes)


def _channel_options(target: str) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        # A peer that vanished without a word is noticed within half a minute.
        *keepalive.pings(),
        # A service that was started again is found soon.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if target.startswith("unix:"):
        options.append(("grpc.enable_http_proxy", 0))
    return options
