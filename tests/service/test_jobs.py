"""What a user does with the whole service, and what goes wrong with a user's program."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import taas
from protos.taas.v1.job_pb2 import TrainingJobSpec
from taas.location import target_of
from tests.service.world import BOUND_S, TASK, Service, Story, until


def run(
    client: taas.Client, name: str, *, workers: int = 2, **parameters: str
) -> tuple[Any, Story]:
    """Run a job to its end."""
    client.submit(TASK, name=name, workers=workers, parameters=parameters)
    story = Story(list(client.watch(name)))
    story.check()
    return client.get(name), story


def losses(client: taas.Client, name: str) -> dict[int, float]:
    """Return the loss of the checkpoints by step."""
    return {c.step: c.metrics["loss"] for c in client.checkpoints(name)}


def test_two_jobs_at_once_give_what_each_gives_alone(service: Service) -> None:
    client = service.client()
    spec = TrainingJobSpec()
    spec.checkpoints.every_steps = 100
    spec.checkpoints.keep_last = 10
    for name in ("left", "right"):
        client.submit(TASK, name=name, workers=2, parameters={"steps": "300"}, spec=spec)
    stories = [Story(list(client.watch(name))) for name in ("left", "right")]
    assert stories[0].test == stories[1].test
    left, right = losses(client, "left"), losses(client, "right")
    # On a busy disk a checkpoint that still waits gives way to the next; the last one is certain.
    both = left.keys() & right.keys()
    assert 300 in both
    assert [left[step] for step in both] == [right[step] for step in both]


@pytest.mark.parametrize(
    ("fail", "workers", "told"),
    [
        pytest.param("model", 2, "ValueError: this network cannot be built", id="model raises"),
        pytest.param("data", 1, "no/such/folder", id="data is missing"),
    ],
)
def test_a_program_that_cannot_work_fails_with_its_own_traceback(
    service: Service, fail: str, workers: int, told: str
) -> None:
    job, story = run(service.client(), f"no-{fail}", workers=workers, fail=fail)
    failure = job.status.last_failure
    assert job.status.phase == taas.Phase.Value("PHASE_FAILED")
    assert job.status.restarts == 0
    assert failure.reason == "InvalidProgram"
    assert told in failure.details
    assert "task.py" in failure.details
    assert "trainer/" not in failure.details
    (end,) = [e.state for e in story.events if e.HasField("state") and e.state.to == 8]
    assert end.failure.details == failure.details


def test_a_module_that_does_not_import_fails_with_its_own_traceback(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "task.py").write_text("import tensorflow_of_another_world\n")
    client = service.client()
    client.submit(tmp_path, name="no-import", workers=1)
    job = client.wait("no-import", BOUND_S)
    assert job.status.last_failure.reason == "InvalidProgram"
    assert "tensorflow_of_another_world" in job.status.last_failure.details


def test_an_unknown_parameter_names_itself_and_those_there_are(service: Service) -> None:
    job, _ = run(service.client(), "no-parameter", workers=1, speed="9")
    text = job.status.last_failure.message + job.status.last_failure.details
    assert "speed" in text
    assert "batch" in text


def test_suspend_scale_and_resume_change_nothing_about_the_result(service: Service) -> None:
    client = service.client()
    _, calm = run(client, "calm", steps="1000")
    client.submit(TASK, name="moved", workers=2, parameters={"steps": "1000"})
    until(lambda: client.get("moved").status.progress.step > 0, "a step")
    client.suspend("moved")
    suspended = taas.Phase.Value("PHASE_SUSPENDED")
    until(lambda: client.get("moved").status.phase == suspended, "the job to be held")
    assert not list(service.processes("moved"))
    saved = client.checkpoints("moved")[0].step
    client.scale("moved", 3)
    client.resume("moved")
    story = Story(list(client.watch("moved")))
    story.check()
    job = client.get("moved")
    assert job.status.phase == taas.Phase.Value("PHASE_SUCCEEDED")
    assert job.status.restarts == 0
    assert len(job.status.workers) == 3
    restored = [e.record.restored.step for e in story.events if e.record.HasField("restored")]
    assert restored == [saved]
    # Other workers, another order of sums: the same up to float noise.
    assert story.test == pytest.approx(calm.test, abs=1e-3)


def test_a_deleted_job_leaves_nothing_behind(service: Service) -> None:
    def files() -> set[Path]:
        folders = (service.home / "storage" / "jobs", service.home / "pods")
        return {file for folder in folders for file in folder.rglob("*")}

    client, before = service.client(), files()
    client.submit(TASK, name="gone", workers=2, parameters={"steps": "1000000"})
    until(lambda: client.get("gone").status.progress.step > 0, "a step")
    client.delete("gone")
    until(lambda: not [j for j in client.list() if j.name.endswith("/gone")], "the job to go")
    assert not list(service.processes("gone"))
    assert files() <= before


def test_a_cancelled_job_keeps_its_checkpoints(service: Service) -> None:
    client = service.client()
    client.submit(TASK, name="stopped", workers=1, parameters={"steps": "1000000"})
    until(lambda: client.get("stopped").status.progress.step > 0, "a step")
    client.cancel("stopped")
    job = client.wait("stopped", BOUND_S)
    assert job.status.phase == taas.Phase.Value("PHASE_CANCELLED")
    assert client.checkpoints("stopped")
    until(lambda: not list(service.processes("stopped")), "the workers to leave")


def test_run_survives_the_death_of_the_service(tmp_path: Path) -> None:
    """`taas run` starts a service, starts it again when it is killed, and stops it at the end."""
    home = Service(Path(tempfile.mkdtemp(prefix="taas-")))
    command = [sys.executable, "-m", "taas", "run", str(TASK), "-p", "steps=1500", "--to"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "result")],
        env={**os.environ, "TAAS_HOME": str(home.home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    killed = False
    for line in process.stdout:
        lines.append(line)
        if " progress " in line and not killed:
            with taas.Client(target_of(home.home)) as client:
                pid = client.service_info().pid
            subprocess.run(["kill", "-9", str(pid)], check=True)
            killed = True
    process.stdout.close()
    assert process.wait(BOUND_S) == 0, "".join(lines)
    assert killed
    assert (tmp_path / "result" / "model" / "saved_model.pb").is_file()
    steps = [line for line in lines if " progress " in line]
    assert len(steps) == len(set(steps))
    until(lambda: not list(home.processes()), "the workers to leave")
    home.close()
