"""The Python client against a service on a socket."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from protos.taas.v1.job_pb2 import Phase
from protos.taas.v1.training_service_pb2 import File
from taas import download
from taas.client import Client
from taas.errors import (
    AlreadyExists,
    FailedPrecondition,
    InternalError,
    InvalidRequest,
    NotFound,
    ServiceUnavailable,
    TaasError,
    TimedOut,
    Unauthenticated,
)
from tests.client import double, events
from tests.client.double import Running

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def test_submit(client: Client, running: Running, job: str) -> None:
    got = client.get("mnist")
    assert got.name == job == "namespaces/default/trainingJobs/mnist"
    assert (got.spec.workers, got.spec.task.module) == (2, "task.py")
    assert dict(got.spec.parameters) == {"epochs": "3"}
    assert client.get("default/mnist") == client.get(job) == got


def test_upload_of_known_content_ends_early(
    client: Client, running: Running, task_folder: Path
) -> None:
    (task_folder / "noise").write_bytes(os.urandom(3 << 20))
    first = client.upload(task_folder)
    assert client.upload(task_folder) == first
    assert running.double.sources == {first.digest: first.size_bytes}


def test_create_is_repeated_as_one(client: Client, running: Running, task_folder: Path) -> None:
    running.double.faults = {"CreateTrainingJob": [UNAVAILABLE], "UploadSource": [UNAVAILABLE]}
    client.submit(task_folder, name="mnist")
    requests = [r.request_id for m, r in running.double.calls if m == "CreateTrainingJob"]
    assert len(requests) == 2
    assert len(set(requests)) == 1
    with pytest.raises(AlreadyExists):
        client.submit(task_folder, name="mnist")
    one = client.submit(task_folder, name="other", request_id="r")
    assert client.submit(task_folder, name="other", request_id="r") == one


@pytest.mark.parametrize(
    ("method", "call", "times"),
    [
        pytest.param("GetTrainingJob", lambda c: c.get("mnist"), 2, id="get"),
        pytest.param("ScaleTrainingJob", lambda c: c.scale("mnist", 3), 2, id="scale"),
        pytest.param("ScaleTrainingJob", lambda c: c.scale("mnist", 3, etag="1"), 1, id="etag"),
        pytest.param("DeleteTrainingJob", lambda c: c.delete("mnist"), 1, id="delete"),
        pytest.param(
            "DeleteTrainingJob", lambda c: c.delete("mnist", allow_missing=True), 2, id="missing"
        ),
    ],
)
def test_only_safe_calls_are_repeated(
    client: Client, running: Running, job: str, method: str, call: object, times: int
) -> None:
    running.double.faults = {method: [UNAVAILABLE]}
    assert callable(call)
    if times == 1:
        with pytest.raises(ServiceUnavailable):
            call(client)
    else:
        call(client)
    assert [m for m, _ in running.double.calls].count(method) == times


def test_other_codes_are_not_repeated(client: Client, running: Running, job: str) -> None:
    running.double.faults = {"GetTrainingJob": [grpc.StatusCode.INTERNAL]}
    with pytest.raises(InternalError, match="INTERNAL"):
        client.get("mnist")
    assert client.get("mnist").name == job


def test_list_reads_all_pages(client: Client, task_folder: Path) -> None:
    for number in range(5):
        client.submit(task_folder, name=f"job-{number}", labels={"odd": str(number % 2)})
    assert [j.name[-1] for j in client.list(page_size=2)] == ["4", "3", "2", "1", "0"]
    assert [j.name[-1] for j in client.list(filter="labels.odd=1")] == ["3", "1"]
    assert list(client.list(namespace="other")) == []
    assert len(list(client.list(namespace="-"))) == 5


def test_errors(client: Client, job: str, task_folder: Path) -> None:
    with pytest.raises(NotFound) as missing:
        client.get("gone")
    assert missing.value.what == "namespaces/default/trainingJobs/gone"
    with pytest.raises(InvalidRequest, match="a/b/c"):
        client.get("a/b/c")
    (task_folder / "task.py").rename(task_folder / "main.py")
    with pytest.raises(InvalidRequest, match="name the task module with --module"):
        client.submit(task_folder, name="x")
    client.cancel("mnist")
    with pytest.raises(FailedPrecondition):
        client.suspend("mnist")


def test_watch_repeats_and_misses_nothing(client: Client, running: Running, job: str) -> None:
    running.double.breaks = {"WatchTrainingJob": [3, 0, 1, 5]}
    running.double.emit(job, *events.scripted("good", 2))
    lost: list[ServiceUnavailable] = []
    seen = list(client.watch("mnist", on_lost=lost.append))
    assert [e.cursor for e in seen] == [e.cursor for e in running.double.jobs[job].events]
    assert len(lost) == 4
    cursor = seen[9].cursor
    assert list(client.watch("mnist", cursor=cursor)) == seen[10:]
    assert list(client.watch("mnist", from_now=True)) == []


def test_watch_outlives_the_service(client: Client, running: Running, job: str) -> None:
    script = events.scripted("good", 2)
    running.double.emit(job, *script[:5])
    seen = []
    for event in client.watch("mnist", on_lost=lambda _: running.up()):
        seen.append(event.cursor)
        if len(seen) == 5:
            running.down()
            running.double.emit(job, *script[5:])
    assert seen == [e.cursor for e in running.double.jobs[job].events]


def test_watch_gives_up(client: Client, running: Running, job: str) -> None:
    running.down()
    lost: list[ServiceUnavailable] = []
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        list(client.watch("mnist", reconnect_for_s=0.3, on_lost=lost.append))
    assert lost
    running.up()


def token_expires_after(running: Running, job: str, *events_told: int) -> None:
    """Let so many watches of a job that comes to its end break off over their token, each after
    so many events."""
    running.double.break_code = grpc.StatusCode.UNAUTHENTICATED
    running.double.breaks = {"WatchTrainingJob": list(events_told)}
    running.double.emit(job, *events.scripted("good", 2))


def test_a_stream_whose_token_has_expired_goes_on_with_the_renewed_one(
    client: Client, running: Running, job: str
) -> None:
    token_expires_after(running, job, 3, 5)
    lost: list[ServiceUnavailable] = []
    seen = list(client.watch("mnist", on_lost=lost.append))
    assert [e.cursor for e in seen] == [e.cursor for e in running.double.jobs[job].events]
    assert lost == []


def test_a_stream_whose_token_is_not_renewed_ends(
    client: Client, running: Running, job: str
) -> None:
    token_expires_after(running, job, 3, 0)
    stream = client.watch("mnist")
    seen = [next(stream).cursor for _ in range(3)]
    with pytest.raises(Unauthenticated):
        next(stream)
    assert seen == [e.cursor for e in running.double.jobs[job].events][:3]
    assert running.double.breaks["WatchTrainingJob"] == []


def test_watch_of_what_is_not_there(client: Client) -> None:
    with pytest.raises(NotFound):
        list(client.watch("gone"))


def test_watch_ends_with_its_client(client: Client, running: Running, job: str) -> None:
    running.double.emit(job, *events.scripted("good", 2)[:1])
    stream = client.watch("mnist")
    next(stream)
    client.close()
    with pytest.raises(ServiceUnavailable, match="closed"):
        next(stream)
    with pytest.raises(ServiceUnavailable, match="closed"):
        client.get("mnist")


def test_wait(client: Client, running: Running, job: str) -> None:
    with pytest.raises(TimedOut, match=r"still PENDING after 0\.2 s"):
        client.wait("mnist", 0.2)
    finish = threading.Thread(target=running.double.emit, args=(job, *events.scripted("good", 2)))
    finish.start()
    assert client.wait("mnist", 60).status.phase == Phase.PHASE_SUCCEEDED
    finish.join()
    assert client.wait("mnist", 0).status.phase == Phase.PHASE_SUCCEEDED


def test_logs(client: Client, running: Running, job: str) -> None:
    running.double.breaks = {"StreamLogs": [2]}
    pieces = [(p.worker, p.text) for p in client.logs("mnist")]
    assert pieces == running.double.jobs[job].logs
    assert [p.text for p in client.logs("mnist", worker=1)] == [
        f"line {n} of 1\n" for n in range(3)
    ]
    running.double.breaks = {"StreamLogs": [1]}
    assert [p.text for p in client.logs("mnist", tail_lines=2)] == [
        "line 2 of 0\n",
        "line 2 of 1\n",
    ]


def test_download(client: Client, running: Running, job: str, tmp_path: Path) -> None:
    running.double.breaks = {"DownloadFile": [1, 2, 0]}
    told: list[tuple[int, int]] = []
    folder = tmp_path / "out"
    files = client.download("mnist", folder, progress=lambda d, t: told.append((d, t)))
    assert {str(f.relative_to(folder)): f.read_bytes() for f in files} == double.OUTPUT
    assert told[-1] == (75_002, 75_002)
    assert [d for d, _ in told] == sorted(d for d, _ in told)
    assert {p.name for p in folder.iterdir()} == {"model", "model.json", "log"}
    under = client.download("mnist", tmp_path / "m", only=["model/variables", "lo"])
    assert [f.name for f in under] == ["v"]
    with pytest.raises(NotFound, match="the output of mnist holds no nothing"):
        client.download("mnist", tmp_path / "n", only=["nothing"])


def test_download_goes_on_where_it_was(
    client: Client, running: Running, job: str, tmp_path: Path
) -> None:
    running.double.emit(job, *events.scripted("good", 2))
    running.double.jobs[job].output = {"big": bytes(range(250)) * 400}
    running.double.breaks = {"DownloadFile": [3] + [0] * 50}
    with pytest.raises(ServiceUnavailable):
        client.download("mnist", tmp_path / "out", reconnect_for_s=0.2)
    assert not (tmp_path / "out" / "big").exists()
    running.double.breaks = {}
    running.double.calls.clear()
    (file,) = client.download("mnist", tmp_path / "out")
    assert file.read_bytes() == bytes(range(250)) * 400
    assert [r.offset for m, r in running.double.calls if m == "DownloadFile"] == [30_000]


def test_download_of_another_job_does_not_go_on(
    client: Client, running: Running, job: str, task_folder: Path, tmp_path: Path
) -> None:
    client.submit(task_folder, name="other")
    client.download("mnist", tmp_path / "out")
    running.double.jobs[job.replace("mnist", "other")].output = {"log": b"12"}
    client.download("other", tmp_path / "out")
    assert (tmp_path / "out" / "log").read_bytes() == b"12"


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "."])
def test_download_stays_in_its_folder(
    client: Client, running: Running, job: str, tmp_path: Path, path: str
) -> None:
    running.double.jobs[job].output = {path: b"x"}
    with pytest.raises(InternalError, match="outside its tree"):
        client.download("mnist", tmp_path / "out")


def test_download_ends_where_a_file_was_announced_to(tmp_path: Path) -> None:
    """The program that writes it may go on writing it for ever."""
    given = 0

    def open_file(path: str, offset: int) -> Iterator[bytes]:
        nonlocal given
        for _ in range(1000):
            given += 1
            yield b"abc"

    file = File(path="log", size_bytes=5)
    stopped = threading.Event()
    (place,) = download.fetch_tree(
        [file], tmp_path, open_file, stopped, staging=".parts", resume=False
    )
    assert place.read_bytes() == b"abcab"
    assert given == 2


def test_download_into_what_is_no_folder(client: Client, job: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(TaasError, match=r"out/.*: Not a directory; .*another folder"):
        client.download("mnist", tmp_path / "out")


def test_client_in_threads(client: Client, job: str) -> None:
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda: names.append(client.get("mnist").name)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == [job] * 8


def test_default_target(monkeypatch: pytest.MonkeyPatch, running: Running, job: str) -> None:
    monkeypatch.setenv("TAAS_TARGET", running.target)
    with Client() as client:
        assert client.get("mnist").name == job
