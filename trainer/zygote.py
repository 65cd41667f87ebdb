"""Forks trainer processes. Warm: TensorFlow is imported once, before any is asked for.

    python -m trainer.zygote --control FD --agent PID --entry MODULE:FUNCTION
                             [--preload MODULE,MODULE] [--cold]

Talks to the agent over a stream socket, one JSON object a line:

    <- {"ready": seconds}                     after the imports (not when cold)
    -> {"assignment": {...}} and 4 descriptors: stdout, stderr, reports, lifeline
    <- {"pid": number}  or  {"error": text}

The trainer becomes a child of the agent, not of this process: it is forked twice, and the agent
adopts orphans. So the end of the zygote harms no training, and the agent reaps its trainers
itself. Cold, the process imports nothing, serves one request and leaves: the imports then happen
in the trainer, with the job's own environment in force.

Rule for forking: nothing here runs a TensorFlow operation or asks for devices, because the
threads that would start do not survive a fork; it is checked before each.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import site
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from trainer import forking, import_path, lifeline, requirements
from trainer.contract import (
    ENV_OUTPUT_DIR,
    ENV_REPORT_FD,
    Assignment,
    ExitCode,
    Report,
    permitted_env,
)

Entry = Callable[[Assignment], int]


def main(argv: Sequence[str]) -> int:
    """Serve until the agent hangs up."""
    arguments = _parse(argv)
    forking.leave_signals_alone()
    control = socket.socket(fileno=arguments.control)
    control.set_inheritable(False)
    lifeline.die_with(arguments.agent)
    lifeline.name_process("taas-zygote")
    if not arguments.cold:
        began = time.monotonic()
        forking.preload([m for m in arguments.preload.split(",") if m], arguments.entry)
        forking.send(control, {"ready": round(time.monotonic() - began, 3)})
    serve(control, agent=arguments.agent, entry=arguments.entry, once=arguments.cold)
    return 0


def serve(control: socket.socket, *, agent: int, entry: str, once: bool = False) -> None:
    """Fork trainers until the agent hangs up; or only one."""
    while (request := forking.receive(control)) is not None:
        _serve(control, *request, agent=agent, entry=entry)
        if once:
            break


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="trainer.zygote")
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--agent", type=int, required=True)
    parser.add_argument("--entry", required=True)
    parser.add_argument("--preload", default="")
    parser.add_argument("--cold", action="store_true")
    return parser.parse_args(argv)


def _serve(
    control: socket.socket,
    request: dict[str, Any],
    descriptors: list[int],
    *,
    agent: int,
    entry: str,
) -> None:
    try:
        check_forkable()
        pid = _fork_orphan(control, request, descriptors, agent=agent, entry=entry)
        forking.send(control, {"pid": pid})
    except (OSError, RuntimeError) as error:
        forking.send(control, {"error": str(error)})
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def check_forkable() -> None:
    """Raise RuntimeError if TensorFlow has started its threads in this process."""
    if "tensorflow" not in sys.modules:
        return
    from tensorflow.python.eager import context

    if context.context()._context_handle is not None:
        raise RuntimeError("TensorFlow was initialized while it was imported, so a fork is unsafe")


def _fork_orphan(
    control: socket.socket,
    request: dict[str, Any],
    descriptors: list[int],
    *,
    agent: int,
    entry: str,
) -> int:
    """Fork the trainer and its guard from a process that ends at once; return the trainer's pid."""
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            control.close()
            os.close(reader)
            _middle(request, descriptors, writer, agent=agent, entry=entry)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read()
    os.waitpid(between, 0)
    if not text:
        raise RuntimeError("the trainer process could not be forked")
    return int(text)


def _middle(
    request: dict[str, Any],
    descriptors: list[int],
    answer: int,
    *,
    agent: int,
    entry: str,
) -> NoReturn:
    middle = os.getpid()
    trainer = os.fork()
    if trainer == 0:
        os.close(answer)
        _become_trainer(request, descriptors, middle=middle, agent=agent, entry=entry)
    # Both sides do this, so that the group exists before either needs it.
    with contextlib.suppress(OSError):
        os.setpgid(trainer, trainer)
    if os.fork() == 0:
        lifeline.guard(trainer, descriptors[3])
    os.write(answer, str(trainer).encode())
    os._exit(0)


def _become_trainer(
    request: dict[str, Any], descriptors: list[int], *, middle: int, agent: int, entry: str
) -> NoReturn:
    """Turn this fork into the trainer, run it and end. Never returns."""
    code = int(ExitCode.CRASHED)
    try:
        os.setpgid(0, 0)
        forking.take_signals()
        forking.connect_standard_streams(descriptors[0], descriptors[1])
        while os.getppid() == middle:
            time.sleep(0.0005)
        lifeline.die_with(agent)
        lifeline.name_process("taas-trainer")
        _prefer_as_victim()
        assignment = Assignment.from_json(json.dumps(request["assignment"]))
        code = _run(entry, assignment, descriptors[2])
    except BaseException:
        traceback.print_exc()
    finally:
        forking.leave(code)


def _prefer_as_victim() -> None:
    """Have the kernel's memory killer choose the trainer before its agent, who can tell of it."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def enter(assignment: Assignment, *, report: int) -> None:
    """Set environment, folder and import path as the trainer's program expects them."""
    os.environ.update(permitted_env(assignment.env))
    os.environ["TF_CONFIG"] = assignment.tf_config()
    os.environ[ENV_REPORT_FD] = str(report)
    if assignment.output_dir:
        os.environ[ENV_OUTPUT_DIR] = assignment.output_dir
    os.chdir(assignment.source_dir)
    import_path.begin_with(assignment.program_dir)
    if assignment.packages_dir:
        _add_packages(Path(assignment.packages_dir))
    sys.argv = [assignment.module, *(assignment.script.arguments if assignment.script else ())]
    if "numpy" in sys.modules:
        # Every fork would draw the same "random" numbers; Python's own are reseeded by Python.
        sys.modules["numpy"].random.seed()


def _add_packages(overlay: Path) -> None:
    """Make the packages of the job importable here and in every process that comes of this one."""
    folder = str(requirements.site_of(overlay))
    site.addsitedir(folder)
    for name, value in (("PYTHONPATH", folder), ("PATH", str(overlay / "bin"))):
        before = os.environ.get(name)
        os.environ[name] = os.pathsep.join([value, *([before] if before else [])])


def _run(entry: str, assignment: Assignment, report: int) -> int:
    # Before the imports of a cold start: TensorFlow looks for its Keras among the job's packages.
    enter(assignment, report=report)
    module, _, function = entry.partition(":")
    try:
        with import_path.services_first():
            trainer = cast(Entry, getattr(importlib.import_module(module), function))
    except ImportError:
        details = traceback.format_exc()
        sys.stderr.write(details)
        message = f"the trainer cannot be imported in this image: {details.splitlines()[-1]}"
        _report(report, type=Report.FAILURE, message=message, details=details)
        return _leaving(report, ExitCode.INVALID)
    try:
        # Only of a trainer that comes back is it known that the number is its own.
        return _leaving(report, trainer(assignment))
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or ExitCode.DONE
        sys.stderr.write(f"{leaving.code}\n")
        return ExitCode.CRASHED


def _leaving(report: int, code: int) -> int:
    """Tell the agent that the exit code can be believed, and return it."""
    _report(report, type=Report.LEAVING, code=int(code))
    return code


def _report(report: int, **fields: object) -> None:
    with contextlib.suppress(BrokenPipeError):  # The agent is gone; nobody asks any more.
        os.write(report, json.dumps(fields).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
