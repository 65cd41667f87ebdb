"""The agent's parts one by one: lines, reports, ends, log, kernel's counts, port, environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.taas.v1 import worker_service_pb2 as wire
from trainer import agent, procfs
from trainer.address import Reservation
from trainer.children import descendants
from trainer.contract import Reason
from trainer.exits import Ended, explain, never_ran
from trainer.kernel_counts import oom_kills, refused_processes
from trainer.launcher import import_time
from trainer.logfile import LogFile
from trainer.reports import FailureReport, LeavingReport, Lines, StepReport, parse_report


@given(st.lists(st.binary(max_size=30)), st.lists(st.integers(1, 7), min_size=1))
def test_lines_do_not_depend_on_how_they_arrive(texts: list[bytes], cuts: list[int]) -> None:
    wanted = [text.replace(b"\n", b"") for text in texts]
    data = b"".join(line + b"\n" for line in wanted)
    lines, got, start = Lines(100, cut=True), [], 0
    while start < len(data):
        size = cuts[start % len(cuts)]
        got += lines.feed(data[start : start + size])
        start += size
    assert got == wanted
    assert lines.rest() == []


@pytest.mark.parametrize("size", [1, 3, 100])
def test_long_lines_are_cut_or_dropped(size: int) -> None:
    data = b"12345\n1234567890\n123\n123456"
    cutting, dropping = Lines(5, cut=True), Lines(5, cut=False)
    cut, kept = [], []
    for start in range(0, len(data), size):
        cut += cutting.feed(data[start : start + size])
        kept += dropping.feed(data[start : start + size])
    assert cut == [b"12345", b"12345 [line cut]", b"123", b"12345 [line cut]"]
    assert kept == [b"12345", b"123"]
    assert dropping.dropped == 2
    assert cutting.rest() == dropping.rest() == []


@given(st.binary())
def test_any_bytes_are_a_report_or_none(line: bytes) -> None:
    parse_report(line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "step"}',
        b'{"type": "step", "step": -1}',
        b'{"type": "step", "step": 99999999999999999999}',
        b'{"type": "step", "step": "5"}',
        b'{"type": "stage", "stage": "flying", "step": 1}',
        b'{"type": "stage", "stage": ["training"], "step": 1}',
        b'{"type": "record", "record": 5}',
        b'{"type": "record", "record": []}',
        b'{"type": "record", "record": {"\\ud800": 1}}',
        b'{"type": "record", "record": {"index": "x"}}',
        b'{"type": "record", "record": {"progress": {"step": 1}, "checkpoint": {"step": 1}}}',
        b'{"type": "other"}',
        b'{"type": "leaving", "code": "0"}',
        b'{"type": "leaving", "code": false}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_report(line: bytes) -> None:
    assert parse_report(line) is None


def test_a_report() -> None:
    assert parse_report(b'{"type": "step", "step": 5, "more": 1}') == StepReport(5)
    assert parse_report(b'{"type": "leaving", "code": 42}') == LeavingReport(42)


def ended(
    status: int, *, stopped: bool = False, oom: bool = False, report: FailureReport | None = None
) -> Ended:
    return Ended(
        generation=2,
        worker=1,
        step=9,
        status=status,
        stopped=stopped,
        out_of_memory=oom,
        crowded=False,
        report=report,
        told_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        stderr=["first", "last"],
        time=datetime(2026, 1, 1, tzinfo=UTC),
    )


def command(status: int, *, stopped: bool = False, members: int = 2) -> Ended:
    """A command says nothing of itself."""
    plain = ended(status, stopped=stopped)
    return replace(plain, told_code=None, command=True, members=members)


@pytest.mark.parametrize(
    ("seen", "outcome", "reason"),
    [
        pytest.param(command(0), wire.OUTCOME_DONE, "", id="command"),
        pytest.param(command(0, stopped=True), wire.OUTCOME_SAVED, "", id="command-stopped"),
        pytest.param(command(42 << 8, stopped=True), wire.OUTCOME_SAVED, "", id="command-saved"),
        pytest.param(command(143 << 8, stopped=True), wire.OUTCOME_SAVED, "", id="command-term"),
        pytest.param(
            command(42 << 8), wire.OUTCOME_PEER_LOST, Reason.PEER_LOST, id="command-taken-along"
        ),
        pytest.param(
            command(42 << 8, members=1), wire.OUTCOME_CRASHED, Reason.TRAINER_CRASHED, id="alone-42"
        ),
        pytest.param(
            command(75 << 8), wire.OUTCOME_CRASHED, Reason.TRAINER_CRASHED, id="command-75"
        ),
        pytest.param(
            command(1 << 8, stopped=True),
            wire.OUTCOME_CRASHED,
            Reason.TRAINER_CRASHED,
            id="command-at-stop",
        ),
        pytest.param(command(9), wire.OUTCOME_CRASHED, Reason.TRAINER_KILLED, id="command-kill"),
        pytest.param(
            replace(command(78 << 8), told_code=78),
            wire.OUTCOME_INVALID,
            Reason.INVALID_PROGRAM,
            id="no-such-command",
        ),
        pytest.param(ended(0), wire.OUTCOME_DONE, "", id="done"),
        pytest.param(ended(0, stopped=True, oom=True), wire.OUTCOME_DONE, "", id="done-anyway"),
        pytest.param(ended(42 << 8), wire.OUTCOME_SAVED, "", id="saved"),
        pytest.param(ended(75 << 8), wire.OUTCOME_PEER_LOST, Reason.PEER_LOST, id="peer"),
        pytest.param(ended(78 << 8), wire.OUTCOME_INVALID, Reason.INVALID_PROGRAM, id="invalid"),
        pytest.param(ended(74 << 8), wire.OUTCOME_CRASHED, Reason.STORAGE_FAILED, id="storage"),
        pytest.param(ended(3 << 8), wire.OUTCOME_CRASHED, Reason.TRAINER_CRASHED, id="code"),
        pytest.param(
            ended(1 << 8, stopped=True), wire.OUTCOME_CRASHED, Reason.TRAINER_CRASHED, id="at-stop"
        ),
        pytest.param(ended(9), wire.OUTCOME_CRASHED, Reason.TRAINER_KILLED, id="kill"),
        pytest.param(ended(15), wire.OUTCOME_CRASHED, Reason.TRAINER_KILLED, id="term"),
        pytest.param(ended(9, oom=True), wire.OUTCOME_CRASHED, Reason.OUT_OF_MEMORY, id="oom"),
        pytest.param(
            replace(ended(9), frozen=True),
            wire.OUTCOME_CRASHED,
            Reason.TRAINER_FROZEN,
            id="frozen",
        ),
        pytest.param(ended(9, stopped=True), wire.OUTCOME_STOPPED, Reason.STOPPED, id="stopped"),
        pytest.param(
            ended(15, stopped=True), wire.OUTCOME_STOPPED, Reason.STOPPED, id="stopped-by-term"
        ),
        pytest.param(
            ended(11 | 0x80, stopped=True, oom=True),
            wire.OUTCOME_CRASHED,
            Reason.TRAINER_CRASHED,
            id="segfault-with-core",
        ),
        pytest.param(ended(6), wire.OUTCOME_CRASHED, Reason.TRAINER_CRASHED, id="abort"),
        pytest.param(ended(40), wire.OUTCOME_CRASHED, Reason.TRAINER_CRASHED, id="realtime"),
    ],
)
def test_ends(seen: Ended, outcome: wire.Outcome, reason: str) -> None:
    exited = explain(seen)
    assert (exited.generation, exited.step) == (2, 9)
    assert exited.outcome == outcome
    assert exited.failure.reason == reason
    assert exited.HasField("failure") == bool(reason)
    if reason:
        assert exited.failure.details == "first\nlast"
        assert "worker 1" in exited.failure.message


@pytest.mark.parametrize("code", [0, 42, 74, 75, 78])
@pytest.mark.parametrize("told", [None, 1])
def test_an_exit_code_that_the_trainer_did_not_announce_is_a_crash(
    code: int, told: int | None
) -> None:
    exited = explain(replace(ended(code << 8), told_code=told))
    assert exited.outcome == wire.OUTCOME_CRASHED
    assert exited.failure.reason == Reason.TRAINER_CRASHED
    assert exited.failure.exit_code == code
    wanted = f"the program ended its process with exit code {code} before the training was complete"
    assert exited.failure.message == wanted
    assert exited.failure.details == "first\nlast"


@pytest.mark.parametrize("text", ["caf\\udce9.jpg", "\\ud800"])
def test_a_failure_over_a_name_in_no_encoding_can_be_sent(text: str) -> None:
    line = f'{{"type": "failure", "message": "{text}", "details": "{text}"}}'.encode()
    report = parse_report(line)
    assert isinstance(report, FailureReport)
    failure = explain(ended(1 << 8, report=report)).failure
    assert failure.message == failure.details == text


def test_every_text_of_an_end_can_be_sent() -> None:
    text, time = "caf\udce9", datetime(2026, 1, 1, tzinfo=UTC)
    exited = never_ran(1, 0, wire.OUTCOME_INVALID, message=text, details=text, time=time)
    assert exited.failure.message == exited.failure.details == "caf\\udce9"
    report = FailureReport(text, text)
    assert explain(ended(1 << 8, report=report)).failure.message == "caf\\udce9"


def test_a_failure_report_speaks_for_an_exit_but_not_for_a_signal() -> None:
    report = FailureReport("it broke", "x" * 100_000 + "end")
    failure = explain(ended(1 << 8, report=report)).failure
    assert failure.message == "it broke"
    assert failure.details.endswith("end")
    assert len(failure.details) == 16 * 1024
    assert "SIGKILL" in explain(ended(9, report=report)).failure.message


def test_a_program_with_too_many_processes_is_told_so() -> None:
    said = FailureReport("x" * 2000, "")
    for report in (None, said):
        crowded = replace(ended(1 << 8, report=report), crowded=True)
        message = explain(crowded).failure.message
        assert "the limit on processes and threads" in message
        assert len(message) <= 1024
    # Somebody else's fault is not explained by it.
    for code in (0, 75):
        crowded = replace(ended(code << 8), crowded=True)
        assert "processes" not in explain(crowded).failure.message


def test_a_trainer_with_nothing_to_save_announces_its_code_and_leaves() -> None:
    program = (
        "import os, signal, time; from trainer.stopping import Stop;"
        "Stop(lambda code: print('leaving', int(code)));"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(3600)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=90
    )
    assert (done.returncode, done.stdout) == (42, "leaving 42\n")


def test_a_long_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "worker-0.log"
    log = LogFile(path, first_bytes=100, part_bytes=50)
    printed = b""
    for begun in range(3):
        log.reopen()  # a generation, maybe of another agent
        for number in range(20):
            lines = [b"begin %d" % begun, b"line %d" % number]
            log.write(lines)
            printed += b"".join(line + b"\n" for line in lines)
    log.close()
    kept: dict[int, bytes] = {}
    offset = 0
    while True:
        begin, data = log.read(offset, 7)
        if not data:
            break
        if begin > offset:
            kept[begin] = b""
        start = max((b for b in kept if b <= begin), default=0)
        kept[start] = kept.get(start, b"") + data
        offset = begin + len(data)
    (head, end), (begin, tail) = sorted(kept.items())
    assert (head, end) == (0, printed[: len(end)])
    assert tail == printed[begin:]
    assert 80 < len(end) <= 100
    assert 150 < len(tail) <= 200
    assert end.endswith(b"\n")
    assert printed[begin - 1 : begin] == b"\n"
    assert log.read(offset, 7) == (offset, b"")
    assert log.read(2**80, 4) == (2**80, b"")


def test_a_log_that_cannot_be_written_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    folder.touch()
    log = LogFile(folder / "worker-0.log")
    log.reopen()
    log.write([b"lost"])
    assert log.read(0, 100) == (0, b"")
    assert caplog.text.count("cannot be written") == 1
    folder.unlink()
    log.reopen()
    log.write([b"kept"])
    log.close()
    assert log.read(0, 100) == (0, b"kept\n")


def test_a_full_disk_is_noted_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    log = LogFile(Path("/dev/full"))
    log.reopen()
    for _ in range(3):
        log.write([b"x"])
    assert caplog.text.count("cannot be written") == 1


def test_a_pipe_in_place_of_the_log_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "worker-0.log")
    log = LogFile(tmp_path / "worker-0.log")
    log.reopen()
    log.write([b"x"])
    log.close()
    assert log.read(0, 100) == (0, b"")


@pytest.mark.parametrize(
    ("membership", "file", "text"),
    [
        ("0::/pod\n", "pod/memory.events", "low 0\noom 4\noom_kill 3\n"),
        ("0::/../..\n", "memory.events", "oom_kill 3\n"),
        ("4:cpu,memory:/pod\n0::/\n", "memory/pod/memory.oom_control", "under_oom 0\noom_kill 3\n"),
        ("4:memory:/outer/pod\n", "memory/memory.oom_control", "oom_kill 3\n"),
    ],
)
def test_memory_kills_are_counted(tmp_path: Path, membership: str, file: str, text: str) -> None:
    root = tmp_path / "a" / "b"
    (root / file).parent.mkdir(parents=True)
    (root / file).write_text(text)
    (tmp_path / "cgroup").write_text(membership)
    assert oom_kills(tmp_path / "cgroup", root) == 3


@pytest.mark.parametrize(
    ("membership", "file"),
    [
        ("0::/pod\n", "pod/pids.events"),
        ("5:pids:/pod/container\n0::/\n", "pids/pod/container/pids.events"),
        ("5:pids:/pod/container\n", "pids/pids.events"),
    ],
)
def test_refused_processes_are_counted(tmp_path: Path, membership: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("max 12\n")
    (tmp_path / "cgroup").write_text(membership)
    assert refused_processes(tmp_path / "cgroup", tmp_path) == 12


@pytest.mark.parametrize("count", [oom_kills, refused_processes])
def test_without_a_control_group_nothing_is_counted(
    tmp_path: Path, count: Callable[[Path, Path], int | None]
) -> None:
    assert count(tmp_path / "none", tmp_path) is None
    (tmp_path / "cgroup").write_text("0::/pod\n")
    assert count(tmp_path / "cgroup", tmp_path) is None


# Eight letters of two bytes each, of which the kernel keeps fifteen bytes.
_NAMED = """
import ctypes
import sys
ctypes.CDLL(None).prctl(15, "обучение".encode())
print("named", flush=True)
sys.stdin.read()
"""


def test_a_process_whose_name_is_cut_in_a_letter_is_looked_at_like_any_other() -> None:
    command = [sys.executable, "-c", _NAMED]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "named\n"
        with pytest.raises(UnicodeDecodeError):
            Path(f"/proc/{process.pid}/stat").read_text()
        assert process.pid in descendants(())
        assert process.pid not in descendants([process.pid])
        assert procfs.stat(process.pid)[procfs.STATE] in "RS"
        assert process.stdin
        process.stdin.close()


def test_an_agent_has_its_threads_before_a_program_can_take_them() -> None:
    before = threading.active_count()
    pool = agent._started_threads()
    assert threading.active_count() == before + 4
    pool.shutdown()


def test_a_reserved_port_goes_to_nobody_who_asks_for_any(tmp_path: Path) -> None:
    held = [Reservation("127.0.0.1") for _ in range(200)]
    assert len({r.address for r in held}) == 200
    for reservation in held:
        reservation.release()
        reservation.release()


def test_a_reserved_port_can_be_listened_at_as_tensorflow_does() -> None:
    held = Reservation("")
    host, _, port = held.address.rpartition(":")
    assert host == "127.0.0.1"
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("", int(port)))
        server.listen()
    held.release()


def test_addresses_are_written_as_tensorflow_reads_them() -> None:
    held = Reservation("::1")
    assert held.address.startswith("[::1]:")
    held.release()
    with pytest.raises(ValueError, match="does not appear to be"):
        Reservation("worker-0")


def test_only_what_matters_to_imports_asks_for_a_cold_start() -> None:
    base = {"TF_CPP_MIN_LOG_LEVEL": "2"}
    env = {
        "TF_CPP_MIN_LOG_LEVEL": "2",  # as it is anyway
        "TF_CONFIG": "reserved",
        "TAAS_JOB": "reserved",
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "0",
        "WANDB_KEY": "1",
    }
    assert set(import_time(env, base)) == {"KERAS_BACKEND", "CUDA_VISIBLE_DEVICES"}
