"""Scripts and commands through the whole service: what goes in, what comes down, what is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from protos.taas.v1.job_pb2 import CheckpointPolicy, TrainingJobSpec
from tests.service.world import Service, Story, until
from tests.training import scripts

SUCCEEDED, FAILED = 7, 8


def test_a_killed_script_goes_on_by_itself_and_its_files_come_down(
    service: Service, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(scripts.PLAIN + 'open("notes.txt", "w").write("beside")\n')
    client = service.client()
    client.submit(
        script,
        name="plain",
        arguments=["20"],
        workers=2,
        distribute=True,
        spec=TrainingJobSpec(checkpoints=CheckpointPolicy(every_steps=20)),
    )
    until(lambda: client.checkpoints("plain"), "a checkpoint")
    trainer = until(lambda: service.trainer("plain", 1), "the trainer")
    os.kill(trainer.pid, signal.SIGKILL)
    job = client.wait("plain")
    assert job.status.phase == SUCCEEDED, job.status
    assert (job.status.restarts, job.status.crashes) == (1, 0)
    assert job.status.progress.step == 240
    story = Story()
    story.events.extend(client.watch("plain"))
    story.check()
    assert [e for e in story.events if e.record.HasField("restored")]
    client.download("plain", tmp_path / "got")
    assert (tmp_path / "got" / "notes.txt").read_text() == "beside"
    assert (tmp_path / "got" / "model.keras").is_file()
    assert not (tmp_path / "got" / "train.py").exists()


COMMAND = """
import json, os, sys
place = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
print("worker", place, "of", len(json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]))
open(f"from-{place}.txt", "w").write(sys.argv[1])
"""


def test_a_command_runs_on_every_worker_and_the_chiefs_files_come_down(
    service: Service, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "tool.py").write_text(COMMAND)
    client = service.client()
    client.submit(folder, name="tool", workers=2, command=["python", "-m", "tool", "hello"])
    job = client.wait("tool")
    assert job.status.phase == SUCCEEDED, job.status
    client.download("tool", tmp_path / "got")
    assert (tmp_path / "got" / "from-0.txt").read_text() == "hello"
    assert not (tmp_path / "got" / "from-1.txt").exists()
    printed = "".join(piece.text for piece in client.logs("tool"))
    assert "worker 0 of 2" in printed
    assert "worker 1 of 2" in printed


def test_a_script_that_cannot_work_fails_at_once_with_the_reason(
    service: Service, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(scripts.LONELY_LOOP)
    client = service.client()
    client.submit(script, name="lonely", workers=2, distribute=True)
    job = client.wait("lonely")
    assert (job.status.phase, job.status.restarts) == (FAILED, 0)
    assert job.status.last_failure.reason == "InvalidProgram"
    assert "spreads Keras' fit only" in job.status.message


def test_requirements_that_cannot_be_had_fail_the_job_with_pips_words(
    service: Service, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("print('never')\n")
    (folder / "requirements.txt").write_text("no-such-package==1.0\n")
    client = service.client()
    spec = TrainingJobSpec(env={"PIP_NO_INDEX": "1"})
    client.submit(folder, name="wants", workers=2, script="train.py", spec=spec)
    job = client.wait("wants")
    assert (job.status.phase, job.status.restarts) == (FAILED, 0)
    assert "requirements.txt cannot be installed" in job.status.message
    assert "no-such-package" in job.status.last_failure.details
