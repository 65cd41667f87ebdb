"""What a folder or file is to be run as: a task, a script or a command."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from protos.taas.v1.job_pb2 import TrainingJobSpec
from taas.errors import InvalidRequest

_TASK_FILE = "task.py"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody said about the program; the rest is found by looking at the source.

    `words` is what follows `--`: the arguments of a script, or else a command. None is nothing.
    """

    module: str = ""
    script: str = ""
    words: tuple[str, ...] | None = None
    distribute: bool = False
    own_checkpoints: bool = False


def choose(spec: TrainingJobSpec, source: Path | None, wish: Wish) -> None:
    """Set the program of `spec`; what it names already counts unless the wish says otherwise.

    `source` is the local folder or Python file, None where there is none. Raises InvalidRequest.
    """
    if source is not None:
        _check_source(source)
    kind = _kind(spec, source, wish)
    if kind == "task":
        if wish.words is not None:
            raise InvalidRequest.of("--", "a task takes no arguments; set parameters with -p")
        name = wish.module or spec.task.module
        spec.task.module = _file(source, name, "spec.task.module", "--module")
    elif kind == "script":
        name = wish.script or spec.script.path
        spec.script.path = _file(source, name, "spec.script.path", "--script")
        if wish.words is not None:
            spec.script.arguments[:] = wish.words
        spec.script.distribute |= wish.distribute
        spec.script.own_checkpoints |= wish.own_checkpoints
    elif wish.words is not None:
        spec.command.words[:] = wish.words


def _kind(spec: TrainingJobSpec, source: Path | None, wish: Wish) -> str:
    of_script = wish.script or wish.distribute or wish.own_checkpoints
    if wish.module and of_script:
        raise InvalidRequest.of(
            "--module",
            "names a task, and --script, --distribute and --own-checkpoints are of "
            "scripts; choose one",
        )
    if wish.module:
        return "task"
    if of_script:
        return "script"
    named: str | None = spec.WhichOneof("program")
    if named is not None:
        return named
    if source is not None and source.is_file():
        return "script" if wish.words is not None or not _has_task(source) else "task"
    return "task" if wish.words is None else "command"


def _has_task(file: Path) -> bool:
    """Say whether a Python file defines a function named task. What cannot be read or parsed is
    for the workers to complain about, with the program's own traceback."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(each, ast.FunctionDef) and each.name == "task" for each in body)


def _check_source(source: Path) -> None:
    if not source.exists():
        raise InvalidRequest.of("source", f"{source} does not exist")
    if source.is_file() and source.suffix != ".py":
        raise InvalidRequest.of(
            "source", f"{source} is not a folder, a Python file or a job document"
        )


def _file(source: Path | None, name: str, field: str, option: str) -> str:
    """Return the path of the Python file to run inside the source, which must be there."""
    if source is None:
        return name
    if source.is_file():
        if name and name != source.name:
            raise InvalidRequest.of(field, f"{name} is not in {source}")
        return source.name
    if not name and option == "--script":
        raise InvalidRequest.of(field, f"is missing; name a script of {source} with --script")
    wanted = name or _TASK_FILE
    if (source / wanted).is_file():
        return wanted
    remedy = (
        f"correct {option}"
        if name
        else "name the task module with --module, a script with --script, or a command after --"
    )
    raise InvalidRequest.of(field, f"{source / wanted} does not exist; {remedy}")
