"""Commands: what they say, in text and JSON, and how they end."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from protos.taas.v1.job_pb2 import BEST_MODE_MIN, Checkpoint, CheckpointPolicy, Phase
from taas import cli, models
from taas.cli import predict
from taas.cli.context import Context, ExitCode, Out
from taas.errors import NotFound
from taas.service import LocalService, module_environment
from tests.client import events
from tests.client.double import Running

if TYPE_CHECKING:
    from tests.client.conftest import Answer

    Taas = Callable[..., Answer]


def test_submit_names_jobs_after_folders(taas: Taas, task_folder: Path) -> None:
    first = taas("submit", str(task_folder), "--workers", "2", "-p", "epochs=3", "--env", "A=b")
    assert (first.code, first.out) == (0, "created my-task\n")
    assert "taas watch my-task" in first.err
    assert taas("submit", str(task_folder)).out == "created my-task-2\n"
    spec = taas("get", "my-task", "--output", "json").json()["spec"]
    assert (spec["workers"], spec["parameters"], spec["env"]) == (2, {"epochs": "3"}, {"A": "b"})


def test_submit_script_and_document(taas: Taas, task_folder: Path, tmp_path: Path) -> None:
    answer = taas("submit", str(task_folder / "task.py"), "--name", "script", "--output", "json")
    assert answer.json()["spec"]["task"] == {"module": "task.py"}
    document = tmp_path / "job.yaml"
    document.write_text(
        "apiVersion: taas.dev/v1\nkind: TrainingJob\nmetadata: {name: doc, namespace: lab}\n"
        'spec: {source: "My Task", workers: 3}\n'
    )
    assert taas("submit", str(document), "--workers", "2").out == "created lab/doc\n"
    assert taas("get", "lab/doc", "--output", "json").json()["spec"]["workers"] == 2
    assert taas("submit", str(document), "-n", "x", "--name", "named").out == "created lab/named\n"


def test_submit_scripts_and_commands(taas: Taas, task_folder: Path) -> None:
    script = task_folder / "train.py"
    script.write_text("print('hello')\n")
    line = ("submit", str(script), "--workers", "2", "--distribute", "--", "--workers", "a b")
    assert taas(*line).out == "created train\n"
    spec = taas("get", "train", "--output", "json").json()["spec"]
    arguments = ["--workers", "a b"]
    assert spec["script"] == {"path": "train.py", "arguments": arguments, "distribute": True}
    assert spec["workers"] == 2
    told = taas("get", "train").out
    assert "script:      train.py --workers 'a b'\n" in told
    assert "distributed: by the service\n" in told
    assert taas("submit", str(task_folder), "--", "python", "-m", "x").out == "created my-task\n"
    told = taas("get", "my-task").out
    assert "command:    python -m x\n" in told
    assert "source:     " in told


def test_dry_run_creates_nothing(taas: Taas, task_folder: Path) -> None:
    assert taas("submit", str(task_folder), "--dry-run").out == "my-task could be created\n"
    assert taas("list").err == "no jobs\n"


@pytest.mark.parametrize(
    ("argv", "code", "error"),
    [
        pytest.param(["get", "gone"], 4, "trainingJobs/gone does not exist", id="not found"),
        pytest.param(["get", "a/b/c"], 2, "name: 'a/b/c' is not a job", id="name"),
        pytest.param(["submit", "gone"], 2, "source: gone does not exist", id="source"),
        pytest.param(["submit", "."], 2, "task.py does not exist; name the", id="module"),
        pytest.param(["submit", "t", "-p", "x"], 2, "-p: 'x' is not KEY=VALUE", id="parameter"),
        pytest.param(["submit", "t", "--workers", "0"], 2, "0 is not at least 1", id="workers"),
        pytest.param(["list", "--phase", "x"], 2, "'x' is not one of PENDING", id="phase"),
        pytest.param(["run", "t", "--target", "h:1"], 2, "run works on this machine", id="run"),
        pytest.param(["predict", "./t", "a.png"], 2, "t holds no model", id="model"),
        pytest.param(["list", "--target", "unix:/nowhere"], 3, "does not answer", id="away"),
    ],
)
def test_errors_are_one_line(
    taas: Taas, task_folder: Path, argv: list[str], code: int, error: str
) -> None:
    task_folder.rename(task_folder.parent / "t")
    answer = taas(*argv)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith("error: ")
    assert error in answer.err
    assert answer.err.count("\n") == 1


def test_errors_as_json(taas: Taas) -> None:
    answer = taas("get", "a/b/c", "--output", "json")
    assert '"kind": "InvalidRequest"' in answer.err
    assert '"field": "name"' in answer.err


def test_name_that_is_taken(taas: Taas, task_folder: Path) -> None:
    assert taas("submit", str(task_folder), "--name", "x").code == 0
    answer = taas("submit", str(task_folder), "--name", "x")
    assert answer.code == ExitCode.USAGE
    assert "exists with another spec" in answer.err


def test_no_service_here(monkeypatch: pytest.MonkeyPatch, taas: Taas) -> None:
    monkeypatch.delenv("TAAS_TARGET")
    answer = taas("list")
    assert answer.code == ExitCode.SERVICE
    assert "start one with `taas up`" in answer.err


def test_usage(taas: Taas) -> None:
    with pytest.raises(SystemExit, match="2"):
        taas("frobnicate")


def test_defect_says_where_the_log_is(
    taas: Taas, running: Running, job: str, tmp_path: Path
) -> None:
    # No service would send such a time.
    running.double.jobs[job].job.create_time.seconds = 1 << 60
    answer = taas("get", "mnist")
    log = tmp_path / "home" / "cli.log"
    assert answer.code == ExitCode.SERVICE
    assert answer.err.startswith("error: a defect in this program: ")
    assert answer.err.endswith(f"; {log} says where\n")
    assert "Traceback" in log.read_text()


def test_list_and_get(taas: Taas, running: Running, job: str) -> None:
    running.double.emit(job, *events.scripted("restart", 2)[:-1])
    lines = taas("list").out.splitlines()
    assert lines[0].split() == ["NAME", "PHASE", "WORKERS", "STEP", "LOSS", "RESTARTS", "AGE"]
    assert lines[1].split()[:6] == ["mnist", "RUNNING", "0/2", "1,000/1,000", "0.1095", "1"]
    assert taas("list", "-A").out.splitlines()[1].startswith("default/mnist ")
    assert taas("list", "--phase", "failed", "--output", "json").json() == {"trainingJobs": []}
    got = taas("get", "mnist").out
    assert "phase:      RUNNING\n" in got
    assert "worker 1:   running\n" in got
    assert "last failure: TrainerKilled: worker 1: SIGKILL" in got


def test_changes(taas: Taas, job: str) -> None:
    assert taas("scale", "mnist", "5").out == "mnist wants 5 workers\n"
    assert taas("scale", "mnist", "1").out == "mnist wants 1 worker\n"
    assert taas("suspend", "mnist").out == "mnist is being suspended\n"
    assert taas("resume", "mnist", "--output", "json").lines()[0]["job"]["name"] == job
    assert taas("cancel", "mnist").out == "mnist is being cancelled\n"
    assert taas("cancel", "mnist").code == ExitCode.USAGE
    assert taas("delete", "default/mnist").out == "mnist is being deleted\n"
    assert taas("delete", "mnist").code == ExitCode.NOT_FOUND
    assert taas("delete", "mnist", "--ignore-not-found").out == "mnist is not there\n"


def test_watch_in_a_pipe(taas: Taas, running: Running, job: str) -> None:
    running.double.emit(job, *events.scripted("good", 2))
    answer = taas("watch", "mnist")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == (
        "2026-01-01T00:00:01Z worker index=0 from=PENDING to=READY generation=1 "
        'message="agent is here"'
    )
    assert (
        "2026-01-01T00:00:07Z progress step=50 total_steps=1000 epoch=0.125 loss=1.15 "
        "accuracy=0.714286 examples_per_second=12345.6 seconds_left=24" in lines
    )
    assert any(
        "evaluation dataset=test step=1000 examples=10000 accuracy=0.9912" in x for x in lines
    )
    assert lines[-1].startswith("mnist succeeded after ")
    items = taas("watch", "mnist", "--output", "json").lines()
    assert [*items[0], *items[-1]] == ["event", "job"]
    cursor = items[-3]["event"]["cursor"]
    rest = taas("watch", "mnist", "--output", "json", "--cursor", cursor).lines()
    assert rest == items[-2:]


def test_failed_job_shows_its_own_traceback(taas: Taas, running: Running, job: str) -> None:
    running.double.emit(job, *events.scripted("bad", 2))
    for command in ("watch", "get"):
        answer = taas(command, "mnist")
        assert answer.code == (1 if command == "watch" else 0)
        assert '      File "task.py", line 3, in task\n    ValueError: no\n' in answer.out


def test_submit_and_watch(taas: Taas, running: Running, task_folder: Path) -> None:
    running.double.script = "good"
    player = threading.Thread(target=running.double.play)
    player.start()
    answer = taas("submit", str(task_folder), "--watch", "--output", "json")
    running.double.stop()
    player.join()
    items = answer.lines()
    assert [next(iter(item)) for item in items] == ["job", *["event"] * (len(items) - 2), "job"]
    assert items[-1]["job"]["status"]["phase"] == "PHASE_SUCCEEDED"


def test_logs(taas: Taas, job: str) -> None:
    assert taas("logs", "mnist").out.splitlines()[:2] == [
        "[worker 0] line 0 of 0",
        "[worker 1] line 0 of 1",
    ]
    assert taas("logs", "mnist", "--worker", "1", "--tail", "1").out == "line 2 of 1\n"
    assert taas("logs", "mnist", "--output", "json").lines()[0]["log"]["text"] == "line 0 of 0\n"


def test_checkpoints_and_download(taas: Taas, running: Running, job: str, tmp_path: Path) -> None:
    assert taas("checkpoints", "mnist").err == "no checkpoints yet\n"
    assert taas("download", "mnist", "--checkpoint", "latest").code == ExitCode.NOT_FOUND
    running.double.emit(job, *events.scripted("good", 2))
    lines = taas("checkpoints", "mnist").out.splitlines()
    assert lines[1].split()[:4] == ["step-0000001000.g000001", "1,000", "0", "5.0"]
    assert taas("download", "mnist").out == "4 files (73.2 kB) in mnist\n"
    assert (tmp_path / "mnist" / "model" / "saved_model.pb").is_file()
    found = taas(
        "download", "mnist", "-o", "x", "--checkpoint", "latest", "--output", "json"
    ).json()
    assert found["folder"] == "x"


def test_version(taas: Taas) -> None:
    fields = taas("version", "--output", "json").json()
    assert (fields["service"], fields["backend"]) == ("0.0-double", "local")
    assert taas("version", "--target", "unix:/nowhere").code == 0


def test_run_does_everything(
    local: LocalService,
    task_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-task").mkdir()
    (tmp_path / "my-task" / "mine").touch()
    assert cli.main(["run", str(task_folder), "--workers", "2"], service=local) == 0
    said = capfd.readouterr().out
    assert said.startswith("created my-task\n")
    assert said.endswith(
        "test    accuracy 0.9912  loss 0.0271  over 10,000 examples\n"
        "output  ./my-task-output\nmodel   ./my-task-output/model\n"
        "try it: taas predict ./my-task-output/model FILE...\n"
    )
    assert (tmp_path / "my-task-output" / "model" / "saved_model.pb").is_file()
    # It started the service, and nothing else runs there.
    assert local.info() is None


def test_run_outlives_its_service(
    local: LocalService, task_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = {"script": "good", "die_at_step": 300}
    (local.home / "double-settings.json").write_text(json.dumps(settings))
    argv = ["run", str(task_folder), "-o", str(tmp_path / "o"), "--output", "json"]
    assert cli.main(argv, service=local) == 0
    said = capfd.readouterr()
    assert "started it again" in said.err
    items = [json.loads(line) for line in said.out.splitlines()]
    cursors = [int(i["event"]["cursor"].split(":")[1]) for i in items if "event" in i]
    assert cursors == list(range(1, len(events.scripted("good", 1)) + 1))
    assert items[-1]["result"]["test"] == {"accuracy": 0.9912, "loss": 0.0271}


def test_run_leaves_a_service_that_was_there(
    local: LocalService, task_folder: Path, tmp_path: Path
) -> None:
    local.start()
    assert cli.main(["run", str(task_folder), "-o", str(tmp_path / "o")], service=local) == 0
    assert local.info() is not None


def test_up_and_down(local: LocalService, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up"], service=local) == 0
    assert cli.main(["up"], service=local) == 0
    assert "the service was up already" in capfd.readouterr().out
    assert cli.main(["down", "--keep-jobs"], service=local) == 0
    assert cli.main(["down"], service=local) == 0
    assert capfd.readouterr().out == "the service is down\nno service was running\n"


def start_watch(running: Running, *argv: str, encoding: str = "utf-8") -> subprocess.Popen[str]:
    """Start `taas watch` as a process of its own."""
    environment = {**module_environment(), "TAAS_TARGET": running.target}
    environment |= {"PYTHONIOENCODING": encoding}
    return subprocess.Popen(
        [sys.executable, "-m", "taas", "watch", "mnist", *argv],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_leaves_the_job(running: Running, job: str) -> None:
    running.double.emit(job, *events.scripted("good", 2)[:1])
    with start_watch(running) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=60)
    assert watching.returncode == ExitCode.INTERRUPTED
    assert err.strip() == "mnist goes on running; to come back: taas watch mnist"


def test_broken_pipe_is_quiet(running: Running, job: str) -> None:
    running.double.emit(job, *events.scripted("good", 2)[:1])
    with start_watch(running) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()
        watching.stdout.close()
        running.double.emit(job, *events.scripted("good", 2)[1:])
        watching.wait(60)
        assert watching.stderr is not None
        assert watching.stderr.read() == ""
    assert watching.returncode == 0


def test_terminal_without_unicode(running: Running, job: str) -> None:
    shown = [
        events.state(Phase.PHASE_PENDING, Phase.PHASE_STARTING, "grün ● \x1b[31m"),
        *events.scripted("bad", 2),
    ]
    running.double.emit(job, *shown)
    with start_watch(running, encoding="ascii") as watching:
        out, err = watching.communicate(timeout=60)
    assert (watching.returncode, err) == (1, "")
    assert 'message="gr?n ? ?[31m"' in out


def test_model_is_fetched_once(taas: Taas, running: Running, job: str, tmp_path: Path) -> None:
    context = Context(
        args=argparse.Namespace(
            model="mnist", namespace="default", target="", token_file="", ca_file=""
        ),
        out=Out(as_json=False),
        local=LocalService(tmp_path / "home"),
        target=running.target,
    )
    folder = predict.fetched_model(context, "mnist")
    assert folder.parent == tmp_path / "home" / "cache" / "models"
    assert predict.local_model(folder) == folder / "model"
    assert predict.local_model(folder / "model") == folder / "model"
    assert predict.local_model(tmp_path / "gone") is None
    running.double.jobs[job].output = {"model.json": b"another"}
    assert predict.fetched_model(context, "mnist") == folder
    running.double.jobs[job].output = {}
    with pytest.raises(NotFound, match=r"no model to ask \(it is PENDING\): there is one from its"):
        predict.fetched_model(context, "mnist")


def test_a_running_job_is_asked_by_its_best_checkpoint(
    taas: Taas, running: Running, job: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    context = Context(
        args=argparse.Namespace(
            model="mnist", namespace="default", target="", token_file="", ca_file=""
        ),
        out=Out(as_json=False),
        local=LocalService(tmp_path / "home"),
        target=running.target,
    )
    held = running.double.jobs[job]
    held.output = {"graph/model/saved_model.pb": b"graph", "graph/model.json": b"{}"}
    held.job.spec.checkpoints.best_metric = "accuracy"
    running.double.emit(job, *events.scripted("good", 2)[:-1])
    folder = predict.fetched_model(context, "mnist")
    (version,) = {p.name.split("-", 1)[1] for p in folder.parent.iterdir()}
    assert version.startswith("step-")
    assert (folder / "model" / "saved_model.pb").read_bytes() == b"graph"
    assert (folder / "model.json").is_file()
    assert list((folder / "checkpoint").iterdir())
    assert "mnist is not done: asking the checkpoint of step" in capfd.readouterr().err


def test_the_best_checkpoint_is_chosen() -> None:
    made = [
        Checkpoint(id=str(step), step=step, metrics=metrics)
        for step, metrics in (
            (40, {"loss": 0.5}),
            (30, {"loss": 0.2, "accuracy": 0.9}),
            (20, {"loss": 0.2, "accuracy": float("nan")}),
            (10, {"loss": 0.9, "accuracy": 0.9}),
        )
    ]

    def chosen(metric: str = "", mode: int = 0) -> int:
        policy = CheckpointPolicy(best_metric=metric, best_mode=mode)
        found = models.chosen(made, policy)
        assert found is not None
        return found.step

    assert chosen() == 40
    assert chosen("accuracy") == 30
    assert chosen("loss") == 10
    assert chosen("loss", BEST_MODE_MIN) == 30
    assert chosen("nothing") == 40
    assert models.chosen([], CheckpointPolicy()) is None
