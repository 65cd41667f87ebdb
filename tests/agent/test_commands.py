"""Commands: the agent runs any program with TF_CONFIG, and judges its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from agent_world import Controller, StartWorker, Worker, publish_files

from protos.taas.v1 import worker_service_pb2 as wire
from trainer import import_path
from trainer.contract import Assignment, Reason
from trainer.storage import JobPaths

_TELL = """
import json, os, sys
print("facts", json.dumps({"arguments": sys.argv[1:], "tf": json.loads(os.environ["TF_CONFIG"]),
      "output": os.environ["TAAS_OUTPUT_DIR"], "report": os.environ.get("TAAS_REPORT_FD"),
      "cwd": os.getcwd(), "mine": os.environ["MINE"]}))
open("beside.txt", "w").write("beside")
open(os.path.join(os.environ["TAAS_OUTPUT_DIR"], "direct.txt"), "w").write("direct")
"""
# As the examples for Google's and Kubeflow's services have it.
_TRAINER = """
import os, trainer, trainer.net
print("mine:", trainer.net.NAME, "path:", os.environ.get("PYTHONPATH"))
"""
_WAIT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[1])))
print("waiting", flush=True)
while True:
    time.sleep(0.05)
"""


def start(worker: Worker, *command: str, position: int = 0, generation: int = 1) -> wire.Start:
    """Return the order to run a command."""
    files = {"tell.py": _TELL, "wait.py": _WAIT, "run.sh": "#!/bin/sh\nexit 3\n"}
    files |= {"trainer/task.py": _TRAINER, "trainer/net.py": "NAME = 'net'\n"}
    cluster = ("127.0.0.1:1", "127.0.0.1:2")
    assignment = Assignment(
        namespace=worker.namespace,
        job=worker.job,
        job_uid=worker.uid,
        generation=generation,
        module="",
        source_digest=publish_files(worker.storage, files),
        env={"MINE": "yes"},
        command=command,
    )
    return wire.Start(
        generation=generation,
        cluster=cluster,
        position=position,
        assignment=replace(assignment, cluster=cluster).to_json(),
    )


def output_of(worker: Worker) -> Path:
    return JobPaths(worker.storage, worker.namespace, worker.job, worker.uid).output


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("position", [0, 1])
async def test_a_command_gets_its_place_and_only_the_chiefs_files_are_kept(
    controller: Controller, start_worker: StartWorker, position: int
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=start(worker, "python", "tell.py", "a b", "", position=position))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_DONE, exited
    log = worker.log_file.read_text()
    facts = json.loads(next(x for x in log.splitlines() if x.startswith("facts "))[6:])
    assert facts["arguments"] == ["a b", ""]
    assert facts["tf"]["task"] == {"type": "worker", "index": position}
    assert (facts["report"], facts["mine"]) == (None, "yes")
    assert names_in(output_of(worker)) == (["beside.txt", "direct.txt"] if position == 0 else [])
    assert "beside.txt" in names_in(Path(facts["cwd"]))
    assert "cold" not in log


async def test_a_command_may_be_a_module_that_is_called_as_one_of_ours(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker(PYTHONPATH=f"{import_path.ROOT}:/elsewhere")
    await controller.hello()
    controller.order(start=start(worker, "python", "-m", "trainer.task"))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_DONE, worker.log_file.read_text()
    assert "mine: net path: /elsewhere" in worker.log_file.read_text()


async def test_the_job_counts_as_running_while_its_command_does(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=start(worker, "python", "wait.py", "0"))
    await worker.log_text("waiting")
    await controller.beat(lambda beat: beat.stage == wire.TRAINER_STAGE_TRAINING)
    controller.order(stop=wire.Stop(generation=1, save=True, grace_seconds=60))
    assert (await controller.exited(1)).outcome == wire.OUTCOME_SAVED


async def test_an_exit_code_is_told_with_the_last_lines(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=start(worker, "sh", "-c", "echo broken >&2; exit 7"))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_CRASHED
    assert exited.failure.message == "the command of worker 1 ended with exit code 7"
    assert exited.failure.details == "broken"


async def test_what_is_no_program_is_named(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    for generation, word in ((1, "no-such-program"), (2, "./run.sh")):
        controller.order(start=start(worker, word, generation=generation))
        exited = await controller.exited(generation)
        assert exited.outcome == wire.OUTCOME_INVALID
        assert exited.failure.reason == Reason.INVALID_PROGRAM
        assert exited.failure.message.startswith(f"{word} cannot be run: ")
