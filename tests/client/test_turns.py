"""Commands that start and stop the service of this machine at the same time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protos.taas.v1.job_pb2 import Phase
from taas import cli, locks
from taas.cli.context import Context, ExitCode, Out
from taas.cli.submit import _Reviver
from taas.client import Client
from taas.errors import InternalError, ServiceUnavailable
from taas.service import LocalService, module_environment

WAITING = "waiting for a `taas down` to let the workers save"


@contextmanager
def somebody(at: str, local: LocalService) -> Iterator[threading.Event]:
    """Hold the lock like another process, until the event is set."""
    holds, end = threading.Event(), threading.Event()

    def hold() -> None:
        with locks.alone(local.home / "start.lock", at, lambda _: None):
            holds.set()
            end.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(60)
    try:
        yield end
    finally:
        end.set()
        thread.join()


def test_starters_and_stoppers_wait_for_a_stop(local: LocalService) -> None:
    local.start()
    for act in (local.start, local.stop):
        said: list[str] = []
        with somebody("stop", local) as end:

            def told(text: str, said: list[str] = said, end: threading.Event = end) -> None:
                said.append(text)
                end.set()

            act(on_wait=told)
        assert said == [WAITING]


def test_a_start_is_waited_for_in_silence(local: LocalService) -> None:
    said: list[str] = []
    with somebody("start", local) as end:
        threading.Timer(0.2, end.set).start()
        local.stop(on_wait=said.append)
    assert said == []


def test_a_stop_is_whole_before_the_next_start(tmp_path: Path) -> None:
    """Workers that save slowly: nobody starts the service meanwhile."""
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import pathlib, sys, time; here = pathlib.Path('.')\n"
        "if '--stop-workers' not in sys.argv: sys.exit(5 if (here / 'saved').exists() else 6)\n"
        "(here / 'saving').touch()\n"
        "while not (here / 'go').exists(): time.sleep(0.01)\n"
        "(here / 'saved').touch()\n"
    )
    local = LocalService(home, command=[sys.executable, "-c", program])
    stopping = threading.Thread(target=local.stop)
    stopping.start()
    said: list[str] = []

    def told(text: str) -> None:
        said.append(text)
        (home / "go").touch()

    saving = threading.Event()
    while not (home / "saving").exists():
        saving.wait(0.01)
    with pytest.raises(ServiceUnavailable, match="exit code 5"):
        LocalService(home, command=local._command).start(on_wait=told)
    stopping.join()
    assert said == [WAITING]


def test_workers_that_do_not_stop_are_no_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = LocalService(
        tmp_path, command=[sys.executable, "-c", "import sys; sys.exit('hangs')"]
    )
    with pytest.raises(InternalError, match="hangs"):
        service.stop()
    assert cli.main(["down"], service=service) == ExitCode.SERVICE
    assert "hangs" in capsys.readouterr().err


def test_a_start_that_fails_is_one_more_try(tmp_path: Path) -> None:
    service = LocalService(tmp_path, command=[sys.executable, "-c", "raise SystemExit(7)"])
    args = cli._parser().parse_args(["version"])
    reviver = _Reviver(Context(args, Out(as_json=False), service, ""))
    for _ in range(4):
        reviver.start_again()
    with pytest.raises(ServiceUnavailable, match="exit code 7"):
        reviver.start_again()


def test_the_last_run_stops_the_service(local: LocalService) -> None:
    other = LocalService(local.home, command=local._command)
    with other.in_use_by_run():
        with local.in_use_by_run():
            assert local.start(lasting=False)
            assert not other.start(lasting=False)
        # The one that started it ends first.
        assert local.stop_after_runs(lambda: True, on_wait=None)
        assert local.info() is not None
    assert not other.stop_after_runs(lambda: False, on_wait=None)
    assert local.info() is not None
    assert other.stop_after_runs(lambda: True, on_wait=None)
    assert local.info() is None
    assert not local.marker.exists()


def test_up_makes_it_stay(local: LocalService, capsys: pytest.CaptureFixture[str]) -> None:
    local.start(lasting=False)
    assert local.marker.exists()
    assert cli.main(["up"], service=local) == 0
    assert local.stop_after_runs(lambda: True, on_wait=None)
    assert local.info() is not None


@pytest.mark.parametrize("busy", [False, True])
def test_run_stops_what_another_run_started(
    local: LocalService,
    task_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    busy: bool,
) -> None:
    local.start(lasting=False)  # by a run that was interrupted since
    if busy:
        with Client(local.target) as client:
            name = client.submit(task_folder, name="other").name
        plain = json.loads((local.home / "double.json").read_text())
        assert name in plain
        plain[name]["events"] = []
        local.stop(keep_jobs=True)
        (local.home / "double.json").write_text(json.dumps(plain))
        local.start(lasting=False)
    assert cli.main(["run", str(task_folder), "-o", str(tmp_path / "o")], service=local) == 0
    assert (local.info() is not None) == busy
    assert ("`taas down` stops it" in capfd.readouterr().err) == busy


def test_ctrl_c_before_the_watch_tells_how_to_come_back(
    local: LocalService, task_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Out):
        """Meets Ctrl-C right after it said that the job was created."""

        def line(self, text: str) -> None:
            super().line(text)
            raise KeyboardInterrupt

    (local.home / "double-settings.json").write_text(json.dumps({"script": ""}))
    args = cli._parser().parse_args(["run", str(task_folder)])
    code = cli._run(args, Interrupted(as_json=False), local)
    assert code == ExitCode.INTERRUPTED
    said = capsys.readouterr()
    assert said.out == "created my-task\n"
    assert said.err == "\nmy-task goes on running; to come back: taas watch my-task\n"
    with Client(local.target) as client:
        assert client.get("my-task").status.phase == Phase.PHASE_PENDING


def test_ctrl_c_right_after_the_start_leaves_no_service(
    local: LocalService, task_folder: Path
) -> None:
    class Interrupted(LocalService):
        """Meets Ctrl-C when the service is up."""

        def start(self, **options: object) -> bool:
            super().start(**options)  # type: ignore[arg-type]
            raise KeyboardInterrupt

    service = Interrupted(local.home, command=local._command)
    assert cli.main(["run", str(task_folder)], service=service) == ExitCode.INTERRUPTED
    assert local.info() is None


def test_ctrl_c_while_it_loads_is_quiet() -> None:
    program = (
        "import _thread, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'grpc': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from taas.cli import main\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=module_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "")
