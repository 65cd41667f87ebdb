"""Judges what a job is to run: a task, a script or a command. Pure.

Every refusal is an InvalidJob.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from controller.errors import InvalidJob
from controller.parse_names import shown
from protos.taas.v1 import job_pb2

# The longest name of a file on Linux; a path of that length is long enough.
MOST_PATH_CHARS = 255
MOST_WORDS = 256
MOST_WORD_CHARS = 4096


def check_program(spec: job_pb2.TrainingJobSpec, field: str) -> None:
    """Refuse a program that could not run. Raises InvalidJob."""
    match spec.WhichOneof("program"):
        case None:
            raise InvalidJob(
                f"{field}.task",
                'is missing; set task.module, for example to "task.py", script.path, for example '
                'to "train.py", or command.words',
            )
        case "task":
            _check_file(spec, spec.task.module, field, "task.module")
            return
        case "script":
            _check_no_evaluator(spec, field)
            _check_file(spec, spec.script.path, field, "script.path")
            _check_words(spec.script.arguments, f"{field}.script.arguments")
        case "command":
            _check_no_evaluator(spec, field)
            _check_command(spec.command, f"{field}.command")
    if spec.parameters:
        raise InvalidJob(
            f"{field}.parameters",
            "are for tasks; give a script arguments (script.arguments) and a command words",
        )


def _check_no_evaluator(spec: job_pb2.TrainingJobSpec, field: str) -> None:
    if spec.evaluator:
        raise InvalidJob(
            f"{field}.evaluator",
            "is for tasks, which say what they are evaluated on; leave it out",
        )


def _check_command(command: job_pb2.CommandProgram, field: str) -> None:
    if not command.words or not command.words[0]:
        raise InvalidJob(
            f"{field}.words", 'names no program; set for example ["python", "-m", "my.module"]'
        )
    _check_words(command.words, f"{field}.words")


def _check_words(words: Sequence[str], field: str) -> None:
    if len(words) > MOST_WORDS:
        raise InvalidJob(field, f"has {len(words)} entries; set at most {MOST_WORDS}")
    for i, word in enumerate(words):
        if len(word) > MOST_WORD_CHARS:
            raise InvalidJob(
                f"{field}[{i}]",
                f"has {len(word)} characters; use at most {MOST_WORD_CHARS}, "
                "and put more than that into a file of the source folder",
            )
        if "\0" in word:
            raise InvalidJob(f"{field}[{i}]", f"{shown(word)} has a NUL character; leave it out")


def _check_file(spec: job_pb2.TrainingJobSpec, path: str, parent: str, name: str) -> None:
    """Check the path of the Python file to run, and that it agrees with the source."""
    field = f"{parent}.{name}"
    if spec.HasField("source"):
        _check_path(path, field)
    elif path.startswith("/"):
        _check_path(path[1:], field)
    else:
        _check_path(path, field)
        raise InvalidJob(
            f"{parent}.source",
            "is missing; set what UploadSource returned, or, if the image holds the program, "
            f"set {name} to its absolute path there instead of {shown(path)}",
        )


def _check_path(path: str, field: str) -> None:
    example = "task.py" if field.endswith("module") else "train.py"
    if not path or len(path) > MOST_PATH_CHARS or not path.isprintable():
        raise InvalidJob(
            field,
            f"{shown(path)} is no path; set 1 to {MOST_PATH_CHARS} printable characters, "
            f'for example "{example}"',
        )
    better = posixpath.normpath(path.replace("\\", "/")).lstrip("/.")
    hint = f"; try {shown(better)}" if better.endswith(".py") else ""
    if path != posixpath.normpath(path) or path.startswith(("/", "../")) or "\\" in path:
        raise InvalidJob(
            field,
            f"{shown(path)} is not a plain path inside the source folder, with forward slashes "
            f"and without '.' and '..'{hint}",
        )
    if not path.endswith(".py") or posixpath.basename(path) == ".py":
        what = "the .py file that has the task" if field.endswith("module") else "a .py file"
        raise InvalidJob(field, f"{shown(path)} is no Python file; name {what}")
