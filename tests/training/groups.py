"""Starts groups of real trainer processes over loopback, without agents or a controller."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer import lifeline, preparation
from trainer.contract import ENV_REPORT_FD, Assignment, Checkpointing, Script
from trainer.storage import JobPaths

# Children are forked from a server that has imported TensorFlow once and touched no device.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["trainer.run"])
# A bound for a broken program only.
TIMEOUT_S = 600
NEVER = Checkpointing(every_seconds=3600)


def begin(log: str) -> None:
    """Let a child end with the tests and write all that it says into a file."""
    # The server ends with the tests, however they end.
    lifeline.die_with(os.getppid())
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 1)
    os.dup2(1, 2)


def _child(assignment_json: str, log: str, reports: str) -> None:
    begin(log)
    assignment = Assignment.from_json(assignment_json)
    pin(assignment.position)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    descriptor = os.open(reports, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.environ[ENV_REPORT_FD] = str(descriptor)
    from trainer import run, zygote

    if assignment.script:
        zygote.enter(assignment, report=descriptor)
    code = run.main(assignment)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _call(log: str, function: Callable[..., None], arguments: Sequence[Any]) -> None:
    begin(log)
    function(*arguments)


def in_a_fork(log: Path, function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a process that has imported TensorFlow and touched no device."""
    process = context.Process(target=_call, args=(str(log), function, arguments))
    process.start()
    process.join(TIMEOUT_S)
    assert process.exitcode == 0, log.read_text()[-3000:]


def together(folder: Path, members: int, function: Callable[..., None], *arguments: Any) -> str:
    """Call a function on every member of a group; return what all printed."""
    cluster = tuple(f"127.0.0.1:{port}" for port in free_ports(members))
    logs = [folder / f"log-{position}.txt" for position in range(members)]
    processes = []
    for position, log in enumerate(logs):
        assignment = Assignment("", "", "", 1, "", "", cluster=cluster, position=position)
        given = (str(log), function, (assignment, *arguments))
        processes.append(context.Process(target=_call, args=given))
        processes[-1].start()
    for process in processes:
        process.join(TIMEOUT_S)
    printed = "\n".join(log.read_text() for log in logs)
    assert [process.exitcode for process in processes] == [0] * members, printed[-5000:]
    return printed


def pin(position: int) -> None:
    """Give the member at a position a core of its own, as far as there are cores.

    Threads of several members on one core get in each other's way. Tests that run side by side
    begin at different cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    first = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.sched_setaffinity(0, {cores[(first + position) % len(cores)]})


def free_ports(number: int) -> list[int]:
    """Return ports of this machine that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@dataclass
class Job:
    """One job in a folder of its own; `run` and `start` make its generations."""

    folder: Path
    source: Path
    checkpointing: Checkpointing = NEVER
    generation: int = 0
    parameters: dict[str, str] = field(default_factory=dict)
    module: str = "task.py"
    script: Script | None = None
    name: str = "test"
    # Where files are kept, if it is not below the folder.
    storage: Path | None = None
    # Further fields of the assignment.
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def paths(self) -> JobPaths:
        return JobPaths(self.storage or self.folder / "storage", "default", self.name, "uid-1")

    def start(self, workers: int) -> Group:
        """Start a generation."""
        self.generation += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        cluster = tuple(f"127.0.0.1:{port}" for port in free_ports(workers))
        group = Group(self, self.generation)
        for position in range(workers):
            assignment = Assignment(
                namespace="default",
                job=self.name,
                job_uid="uid-1",
                generation=self.generation,
                module=self.module,
                script=self.script,
                source_digest="",
                parameters=self.parameters,
                checkpointing=self.checkpointing,
                cluster=cluster,
                position=position,
                storage_root=str(self.paths.root),
                source_dir=str(self.source),
                scratch_dir=str(self.folder),
                **self.more,
            )
            if self.script:
                assignment = self._placed(assignment)
            process = context.Process(
                target=_child,
                args=(
                    assignment.to_json(),
                    str(group.log(position)),
                    str(group.report_file(position)),
                ),
            )
            process.start()
            group.processes.append(process)
        return group

    def _placed(self, assignment: Assignment) -> Assignment:
        """Give a script the folders that an agent would give it."""
        scratch = self.folder / f"worker-{assignment.position}"
        source = scratch / "source"
        if not source.exists():
            shutil.copytree(self.source, source)
        return preparation.for_program(replace(assignment, scratch_dir=str(scratch)), source)

    def run(self, workers: int) -> list[int]:
        """Run a generation to its end and return the exit codes."""
        return self.start(workers).wait()

    def records(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the records of all generations, in order."""
        found = []
        for path in sorted(self.paths.records.glob("g*.jsonl")):
            found += [json.loads(line) for line in path.read_text().splitlines()]
        return [r for r in found if kind is None or kind in r]

    def losses(self) -> dict[int, float]:
        """Return the recorded training loss by step."""
        return {int(r["progress"]["step"]): r["progress"]["loss"] for r in self.records("progress")}


@dataclass
class Group:
    """The running processes of a generation."""

    job: Job
    generation: int
    processes: list[Any] = field(default_factory=list)

    def log(self, position: int) -> Path:
        return self.job.folder / f"log-{self.generation}-{position}.txt"

    def report_file(self, position: int) -> Path:
        return self.job.folder / f"reports-{self.generation}-{position}.jsonl"

    def reports(self, position: int) -> list[dict[str, Any]]:
        """Return what a member has reported so far, whole lines only."""
        path = self.report_file(position)
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait(self) -> list[int]:
        """Wait for all members and return their exit codes (negative: a signal)."""
        until = time.monotonic() + TIMEOUT_S
        for process in self.processes:
            process.join(max(0, until - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            if process.exitcode is None:
                process.kill()
                process.join()
        assert None not in codes, f"still running: {codes}\n{self.logs()}"
        return codes

    def logs(self) -> str:
        return "\n".join(self.log(i).read_text()[-3000:] for i in range(len(self.processes)))

    def until(self, seen: Callable[[Sequence[dict[str, Any]]], bool], position: int = 0) -> None:
        """Wait until the reports of a member satisfy a condition."""
        until = time.monotonic() + TIMEOUT_S
        while not seen(self.reports(position)):
            assert time.monotonic() < until, self.logs()
            assert self.processes[position].is_alive(), self.logs()
            time.sleep(0.02)

    def until_step(self, step: int, position: int = 0) -> None:
        """Wait until a member has made so many steps."""
        self.until(lambda rs: any(r["type"] == "step" and r["step"] >= step for r in rs), position)

    def terminate(self, position: int) -> None:
        os.kill(self.processes[position].pid, signal.SIGTERM)

    def kill(self, position: int) -> None:
        os.kill(self.processes[position].pid, signal.SIGKILL)
