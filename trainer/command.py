"""Turns a trainer process into the command that the job names. Imports nothing heavy.

From then on its exit code is all that is known of it; trainer.exits judges that.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from trainer.contract import ENV_REPORT_FD, Assignment, ExitCode, Report

# What Python ignores for itself; programs expect to be ended by them.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def main(assignment: Assignment) -> int:
    """Become the command. Returns only if there is no such program."""
    report = int(os.environ.pop(ENV_REPORT_FD))
    # `python` is the one that has TensorFlow: that of the service.
    os.environ["PATH"] = os.pathsep.join(
        [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    )
    # What it prints is seen at once, and not lost when it is killed.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(assignment.command[0], assignment.command)
    except OSError as error:
        message = (
            f"{assignment.command[0]} cannot be run: {error.strerror}; the first word must be a "
            "program of the image or an executable file of the source, such as ./train.sh"
        )
        sys.stderr.write(f"{message}\n")
        failure = {"type": Report.FAILURE, "message": message, "details": ""}
        os.write(report, json.dumps(failure).encode() + b"\n")
        return ExitCode.INVALID
