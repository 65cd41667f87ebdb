# ruff: noqa: T201 - a program of a user prints.
"""A trainer without TensorFlow: does what the job's parameter "do" names.

Runs inside the agent's trainer process, so it is imported by trainer.zygote, not by tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from trainer.contract import ENV_REPORT_FD, Assignment, ExitCode, Report, Stage

_FOREVER_S = 3600


def main(assignment: Assignment) -> int:
    """Behave as parameters["do"] says."""
    report(type=Report.STAGE, stage=Stage.TRAINING, step=0)
    return int(globals()[f"_{assignment.parameters['do']}"](assignment))


def report(**fields: object) -> None:
    """Write one report."""
    os.write(int(os.environ[ENV_REPORT_FD]), json.dumps(fields).encode() + b"\n")


def _tell(assignment: Assignment) -> int:
    """Print everything a trainer may rely on, as JSON."""
    process = Path("/proc/self")
    facts = {
        "tf_config": json.loads(os.environ["TF_CONFIG"]),
        "env": {k: v for k, v in os.environ.items() if k.startswith(("TAAS_", "USER_", "TF_"))},
        "cwd": os.getcwd(),
        "path": sys.path[0],
        "stdin": os.readlink(process / "fd" / "0"),
        "group": os.getpgid(0) == os.getpid(),
        "parent": os.getppid(),
        "open": len(os.listdir(process / "fd")),
        "ignored": signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL,
        "source": Path("task.py").read_text(),
    }
    print("facts " + json.dumps(facts))
    print("to stderr", file=sys.stderr)
    report(type=Report.STEP, step=7)
    report(
        type=Report.RECORD,
        record={
            "generation": assignment.generation,
            "index": "0",
            "progress": {"step": "7", "totalSteps": "9", "loss": 0.5},
            "fieldOfTheFuture": 1,
        },
    )
    checkpoint = {"id": "step-0000000007.g000001", "step": "7"}
    report(
        type=Report.RECORD,
        record={"generation": assignment.generation, "index": "1", "checkpoint": checkpoint},
    )
    return ExitCode.DONE


def _crash(assignment: Assignment) -> int:
    raise ValueError("the loss is a fish")


def _crash_with_report(assignment: Assignment) -> int:
    details = "Traceback: task.py, line 3"
    report(type=Report.FAILURE, message="ValueError in task.py", details=details)
    return ExitCode.CRASHED


def _invalid(assignment: Assignment) -> int:
    report(type=Report.FAILURE, message="task.py has no function task", details="the traceback")
    return ExitCode.INVALID


def _peer_lost(assignment: Assignment) -> int:
    return ExitCode.PEER_LOST


def _leave_by_sys_exit(assignment: Assignment) -> int:
    sys.exit("cannot go on")


def _end_process(assignment: Assignment) -> int:
    """End as a C library may, in the middle and without a word."""
    os._exit(int(assignment.parameters["code"]))


def _leave_by_sys_exit_0(assignment: Assignment) -> int:
    sys.exit(0)


def _crash_over_a_file_name(assignment: Assignment) -> int:
    """Fail over a file whose name is no UTF-8."""
    text = f"no such file: {os.fsdecode(b'caf' + bytes([0xE9]))}"
    report(type=Report.FAILURE, message=text, details=text)
    return ExitCode.CRASHED


def _segfault(assignment: Assignment) -> int:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def _wait(assignment: Assignment) -> int:
    """Train for ever; die of SIGTERM."""
    print(f"pid {os.getpid()}")
    report(type=Report.STEP, step=3)
    end = time.monotonic() + _FOREVER_S
    while time.monotonic() < end:
        # In short pieces: a signal that comes just before a sleep does not cut it short, and its
        # handler runs only afterwards.
        time.sleep(0.05)
    return 0


def _save_on_term(assignment: Assignment) -> int:
    """Train for ever; save when told to."""

    def save(number: int, frame: object) -> None:
        report(type=Report.STEP, step=11)
        report(type=Report.LEAVING, code=ExitCode.SAVED)
        os._exit(ExitCode.SAVED)

    signal.signal(signal.SIGTERM, save)
    return _wait(assignment)


def _ignore_term(assignment: Assignment) -> int:
    """Train for ever; be deaf."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return _wait(assignment)


def _report_term(assignment: Assignment) -> int:
    """Train for ever; take note of SIGTERM and go on."""
    signal.signal(signal.SIGTERM, lambda number, frame: report(type=Report.STEP, step=4))
    return _wait(assignment)


_CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"


def _spawn(assignment: Assignment) -> int:
    """Have a child, and one that has left the process group, then train for ever."""
    child = subprocess.Popen([sys.executable, "-c", _CHILD])
    print(f"child {child.pid}")
    if assignment.parameters.get("daemon"):
        # A double fork with a session of its own: neither group nor parent lead to it.
        command = [sys.executable, "-c", _CHILD]
        shell = subprocess.run(
            ["sh", "-c", 'setsid "$@" </dev/null >/dev/null 2>&1 & echo $!', "sh", *command],
            capture_output=True,
            text=True,
            check=True,
        )
        print(f"daemon {shell.stdout.strip()}")
    if assignment.parameters.get("then") == "leave":
        return ExitCode.DONE
    return _wait(assignment)


def _flood(assignment: Assignment) -> int:
    """Print and report as much as fits through in a moment, then more junk."""
    for number in range(200_000):
        print(f"line {number:06d} " + "x" * 80)
    print("y" * 200_000)
    for step in range(50_000):
        report(type=Report.STEP, step=step)
    os.write(int(os.environ[ENV_REPORT_FD]), b"junk\n[1]\n{}\n" + b'{"type": []}\n\xff\n')
    os.write(int(os.environ[ENV_REPORT_FD]), b"z" * 3_000_000 + b"\n")
    report(type=Report.STEP, step=50_000)
    print("the end", end="")
    return ExitCode.DONE
