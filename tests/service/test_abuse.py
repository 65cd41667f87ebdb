"""A real controller process under callers that mean it no good."""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest

import taas
from controller.limits import CallLimits
from controller.local.access import PodTokens
from protos.taas.v1 import training_service_pb2 as pb
from protos.taas.v1 import training_service_pb2_grpc
from protos.taas.v1.job_pb2 import CommandProgram, Source, TrainingJobSpec
from tests.service.callers import (
    idle_connections,
    lazy_readers,
    message_is_refused,
    send_a_huge_message,
    stalled_requests,
)
from tests.service.world import BOUND_S, Service, until

# Streams below, and jobs at, what one caller and one namespace may have.
CONNECTIONS, READERS, STALLED, JOBS = 5000, 400, 400, 1000
MEBI, GIBI = 1 << 20, 1 << 30
CONNECT, WORKERS_BYTES = "/taas.v1.WorkerService/Connect", 256 * 1024
# What docs/security.md promises of a controller; deploy/ gives it more.
BOUND_BYTES = 512 * MEBI


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the test's own ends of the connections."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def resident(service: Service) -> int:
    """Bytes of memory that the controller has."""
    assert service.controller is not None
    return int(psutil.Process(service.controller.pid).memory_info().rss)


def socket_of(service: Service) -> str:
    """The path of the service's socket, once it answers."""
    path = service.target.removeprefix("unix:")
    until(lambda: os.path.exists(path), "the service")
    assert service.client().service_info().version
    return path


def answered(client: taas.Client) -> bool:
    """Whether the service takes one more call."""
    with contextlib.suppress(taas.LimitExceeded):
        return bool(client.service_info().version)
    return False


def workers_socket_of(service: Service) -> str:
    """The path of the socket that is for workers."""
    return socket_of(service).removesuffix(".sock") + ".pods"


def tokens_of(tokens: PodTokens) -> Callable[[int], str]:
    """The tokens of pods, by number."""
    return lambda number: tokens.token(f"pod-{number}")


@pytest.fixture
def big(service: Service) -> str:
    """The name of a job that has written a gigabyte, and ten megabytes into its log."""
    socket_of(service)
    client = service.client()
    if not any(job.name.endswith("/big") for job in client.list()):
        program = f"open('big', 'wb').truncate({GIBI})\nprint(('x' * 99 + '\\n') * {MEBI // 10})"
        command = CommandProgram(words=["python", "-c", program])
        client.create("big", TrainingJobSpec(command=command, workers=1))
    client.wait("big")
    return "namespaces/default/trainingJobs/big"


def download(job: str) -> pb.DownloadFileRequest:
    """Asks for the gigabyte."""
    return pb.DownloadFileRequest(parent=job, artifact=pb.Artifact(output=True), path="big")


@pytest.mark.usefixtures("many_files")
def test_thousands_of_idle_connections_cost_little_and_stop_nobody(service: Service) -> None:
    path = socket_of(service)
    before = resident(service)
    with idle_connections(path, CONNECTIONS):
        assert len(list(service.client().list())) < 10
        with taas.Client(service.target) as newcomer:
            assert newcomer.service_info().version
        grown = resident(service) - before
        # Nothing is kept for a connection but its buffers.
        assert grown < CONNECTIONS * 40 * 1024, f"{grown / MEBI:.0f} MiB"
    assert service.client().service_info().version


def test_a_message_of_ten_gigabytes_is_refused_and_never_held(service: Service) -> None:
    path = socket_of(service)
    before = resident(service)
    method = "/taas.v1.TrainingService/GetTrainingJob"
    taken = send_a_huge_message(path, method, 10 * GIBI)
    assert taken < 10 * GIBI
    assert resident(service) - before < 32 * MEBI
    assert service.client().service_info().version


def test_an_upload_of_ten_gigabytes_ends_where_it_was_announced_to(service: Service) -> None:
    socket_of(service)
    before, given = resident(service), 0

    def pieces() -> Iterator[pb.UploadSourceRequest]:
        nonlocal given
        source = Source(digest="0" * 64, size_bytes=10 * MEBI)
        header = pb.UploadSourceHeader(parent="namespaces/default", source=source)
        yield pb.UploadSourceRequest(header=header)
        while given < 10 * GIBI:
            given += MEBI
            yield pb.UploadSourceRequest(data=bytes(MEBI))

    with grpc.insecure_channel(service.target) as channel:
        stub = training_service_pb2_grpc.TrainingServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.UploadSource(pieces(), timeout=BOUND_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "more came" in caught.value.details()
    assert given < 100 * MEBI
    assert resident(service) - before < 64 * MEBI
    assert not [p for p in service.home.joinpath("storage", "sources").rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "method",
    [
        "taas.v1.TrainingService/GetTrainingJob",
        "taas.v1.TrainingService/WatchTrainingJob",
        "taas.v1.TrainingService/UploadSource",
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_requests_that_never_come_whole_are_not_held(service: Service, method: str) -> None:
    path = socket_of(service)
    before, size = resident(service), 4 * MEBI - 100
    with stalled_requests(path, f"/{method}", STALLED, size) as taken:
        assert taken < STALLED * size / 8, f"{taken / MEBI:.0f} MiB"
        grown = resident(service) - before
        assert grown < STALLED * size / 8, f"{grown / MEBI:.0f} MiB"
    # All callers of this service are one, and he has had all calls that he may have.
    client = service.client()
    until(lambda: answered(client), "the calls of connections that are gone to end")


def test_messages_of_workers_that_never_come_whole_are_few_bytes(service: Service) -> None:
    path, tokens = workers_socket_of(service), PodTokens.of(service.home)
    message_is_refused(path, CONNECT, WORKERS_BYTES + 1, tokens.token("pod"))
    before = resident(service)
    with stalled_requests(path, CONNECT, STALLED, WORKERS_BYTES, tokens_of(tokens)) as taken:
        # What is held is what was taken, and all have been let in.
        assert taken == STALLED * (WORKERS_BYTES - 1)
        grown = resident(service) - before
        assert grown < 2 * STALLED * WORKERS_BYTES, f"{grown / MEBI:.0f} MiB"
        assert service.client().service_info().version


def test_clients_that_never_read_wait_alone(service: Service, big: str) -> None:
    client, before = service.client(), resident(service)
    # So many go over at once, the others wait for those.
    transfers = CallLimits().transfers
    with lazy_readers(service.target, "DownloadFile", download(big), READERS, told=transfers):
        for _ in range(50):
            assert client.get("big").uid
        # A window and a few pieces each.
        grown = resident(service) - before
        assert grown < 100 * MEBI, f"{grown / MEBI:.0f} MiB"
    before = resident(service)
    logs = pb.StreamLogsRequest(name=big)
    with lazy_readers(service.target, "StreamLogs", logs, READERS, told=READERS):
        for _ in range(50):
            assert client.get("big").uid
        grown = resident(service) - before
        assert grown < READERS * MEBI / 2, f"{grown / MEBI:.0f} MiB"


def test_another_user_of_the_machine_cannot_call(service: Service) -> None:
    path = service.target.removeprefix("unix:")
    until(lambda: os.path.exists(path), "the service")
    for each in (path, workers_socket_of(service)):
        assert stat.S_IMODE(os.stat(each).st_mode) == 0o600
    for name in ("state.db", "pods.key"):
        assert not stat.S_IMODE((service.home / name).stat().st_mode) & 0o077, name
    if os.geteuid() == 0:
        program = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
        # As nobody, and with the folder open to all: the socket itself is what keeps him out.
        service.home.chmod(0o755)
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-S", "-c", program],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "PermissionError" in done.stderr


def test_no_token_is_in_a_log_a_process_list_or_a_store(service: Service) -> None:
    socket_of(service)
    client = service.client()
    command = CommandProgram(words=["sleep", "1000000"])
    client.create("sleeper", TrainingJobSpec(command=command, workers=1))
    until(lambda: client.get("sleeper").status.phase == taas.Phase.Value("PHASE_RUNNING"), "it")
    tokens = [path.read_text() for path in service.home.glob("pods/*/token")]
    assert tokens
    assert all(len(token) > 40 for token in tokens)
    seen = [*service.home.glob("*.log"), *service.home.glob("*.db*")]
    seen += service.home.glob("pods/*/agent.log")
    for process in service.processes("sleeper"):
        seen += [Path(f"/proc/{process.pid}/{file}") for file in ("cmdline", "environ")]
    assert len(seen) > 5
    for path in seen:
        content = path.read_bytes()
        assert not any(token.encode() in content for token in tokens), path
    client.cancel("sleeper")


@pytest.mark.usefixtures("many_files")
def test_all_of_it_at_once_stays_below_the_bound(service: Service, big: str) -> None:
    path, client = socket_of(service), service.client()
    spec = TrainingJobSpec(command=CommandProgram(words=["true"]), workers=1, suspend=True)
    for number in range(JOBS - len(list(client.list()))):
        client.create(f"job-{number}", spec)
    tokens = tokens_of(PodTokens.of(service.home))
    called, logs = "/taas.v1.TrainingService/", pb.StreamLogsRequest(name=big)
    with (
        idle_connections(path, CONNECTIONS),
        lazy_readers(service.target, "StreamLogs", logs, READERS, told=READERS),
        stalled_requests(path, f"{called}UploadSource", STALLED, 4 * MEBI - 100),
        stalled_requests(workers_socket_of(service), CONNECT, STALLED, WORKERS_BYTES, tokens),
    ):
        send_a_huge_message(path, f"{called}GetTrainingJob", GIBI)
        assert len(list(client.list())) == JOBS
        assert resident(service) < BOUND_BYTES, f"{resident(service) / MEBI:.0f} MiB"
