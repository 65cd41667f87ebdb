"""Says how a trainer ended, and why, from what its agent saw of it. Pure."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from protos.taas.v1 import job_pb2
from protos.taas.v1 import worker_service_pb2 as wire
from trainer.contract import ExitCode, Reason
from trainer.reports import FailureReport, encodable

# A status has to fit into one resource of the cluster with much else; of a traceback, the end
# says most.
_MOST_DETAILS = 16 * 1024
_MOST_MESSAGE = 1024
CROWDED = (
    "the limit on processes and threads of the pod has been reached: start fewer, or have the "
    "limit raised"
)

_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)

_BY_CODE: dict[int, wire.Outcome] = {
    ExitCode.DONE: wire.OUTCOME_DONE,
    ExitCode.SAVED: wire.OUTCOME_SAVED,
    ExitCode.STORAGE: wire.OUTCOME_CRASHED,
    ExitCode.PEER_LOST: wire.OUTCOME_PEER_LOST,
    ExitCode.INVALID: wire.OUTCOME_INVALID,
}
_REASONS = {
    wire.OUTCOME_PEER_LOST: Reason.PEER_LOST,
    wire.OUTCOME_CRASHED: Reason.TRAINER_CRASHED,
    wire.OUTCOME_INVALID: Reason.INVALID_PROGRAM,
    wire.OUTCOME_STOPPED: Reason.STOPPED,
}


@dataclass(frozen=True, slots=True)
class Ended:
    """What an agent saw of a trainer that has ended. `status` is as waitpid returns it."""

    generation: int
    worker: int
    step: int
    status: int
    # The agent sent a signal because it was told to.
    stopped: bool
    # The kernel killed a process of the container for want of memory meanwhile.
    out_of_memory: bool
    # The kernel refused the container a process or thread meanwhile, because it had too many.
    crowded: bool
    report: FailureReport | None
    # The exit code that the trainer announced; None when the process ended without a word.
    told_code: int | None
    # Last lines on stderr.
    stderr: Sequence[str]
    time: datetime
    # The agent ended it because somebody had stopped it; `time` is since when.
    frozen: bool = False
    # Whether the process became a command of the user's, and how large the group is.
    command: bool = False
    members: int = 1


def explain(ended: Ended) -> wire.Exited:
    """Return what the controller is told of a trainer that ran and ended."""
    if os.WIFSIGNALED(ended.status):
        return _explain_signal(ended, os.WTERMSIG(ended.status))
    code = os.WEXITSTATUS(ended.status)
    if ended.command and ended.told_code is None:
        return _explain_command(ended, code)
    outcome = _BY_CODE.get(code, wire.OUTCOME_CRASHED)
    if code in _BY_CODE and ended.told_code != code:
        # os._exit or a C library's exit, called by the program: the number means nothing here.
        message = (
            f"the program ended its process with exit code {code} before the training was complete"
        )
        return _exited(ended, wire.OUTCOME_CRASHED, Reason.TRAINER_CRASHED, message, exit_code=code)
    if outcome in (wire.OUTCOME_DONE, wire.OUTCOME_SAVED):
        return wire.Exited(generation=ended.generation, outcome=outcome, step=ended.step)
    if outcome == wire.OUTCOME_PEER_LOST:
        message = f"worker {ended.worker} lost contact with another worker"
    else:
        message = f"the trainer of worker {ended.worker} ended with exit code {code}"
    reason = Reason.STORAGE_FAILED if code == ExitCode.STORAGE else _REASONS[outcome]
    return _exited(ended, outcome, reason, message, exit_code=code)


# What a shell makes of SIGTERM; many programs leave with it as well.
_TERMINATED = 128 + signal.SIGTERM


def _explain_command(ended: Ended, code: int) -> wire.Exited:
    """A command's number is all that is known of it.

    Whoever was told to stop and leaves in good order has not finished, whatever it says: one that
    had is only run again, and finds that out.
    """
    if ended.stopped and code in (ExitCode.DONE, ExitCode.SAVED, _TERMINATED):
        return wire.Exited(generation=ended.generation, outcome=wire.OUTCOME_SAVED, step=ended.step)
    if code == ExitCode.DONE:
        return wire.Exited(generation=ended.generation, outcome=wire.OUTCOME_DONE, step=ended.step)
    if code == ExitCode.SAVED and ended.members > 1:
        # TensorFlow's preemption handler takes the whole group along when one worker must go.
        message = f"the command of worker {ended.worker} left because another worker must go"
        outcome, reason = wire.OUTCOME_PEER_LOST, Reason.PEER_LOST
    else:
        message = f"the command of worker {ended.worker} ended with exit code {code}"
        outcome, reason = wire.OUTCOME_CRASHED, Reason.TRAINER_CRASHED
    return _exited(ended, outcome, reason, message, exit_code=code)


def _explain_signal(ended: Ended, number: int) -> wire.Exited:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    who = f"the trainer of worker {ended.worker}"
    outcome, reason = wire.OUTCOME_CRASHED, Reason.TRAINER_CRASHED
    message = f"{who} was ended by {name}"
    if number in _FAULTS:
        message += ", a fault in native code"
    if number in (signal.SIGKILL, signal.SIGTERM):
        if ended.frozen:
            reason = Reason.TRAINER_FROZEN
            message = f"{who} was stopped from outside (SIGSTOP) and did not go on, so it was ended"
        elif ended.stopped:
            outcome, reason = wire.OUTCOME_STOPPED, Reason.STOPPED
            message = f"{who} was told to stop and was ended before it had saved"
        elif ended.out_of_memory:
            reason = Reason.OUT_OF_MEMORY
            message = f"{who} ran out of memory: take a smaller batch or give it more memory"
        else:
            reason = Reason.TRAINER_KILLED
            message = f"{who} was ended by {name} from outside"
    return _exited(ended, outcome, reason, message, signal_number=number)


def _exited(
    ended: Ended,
    outcome: wire.Outcome,
    reason: str,
    message: str,
    *,
    exit_code: int = 0,
    signal_number: int = 0,
) -> wire.Exited:
    report = ended.report
    details = report.details if report and report.details else "\n".join(ended.stderr)
    if report and report.message and exit_code:
        message = report.message
    if ended.crowded and outcome == wire.OUTCOME_CRASHED:
        # Whatever it says itself, often no more than "Resource temporarily unavailable".
        message = f"{message[: _MOST_MESSAGE - len(CROWDED) - 2]}; {CROWDED}"
    failure = job_pb2.Failure(
        reason=reason,
        worker=ended.worker,
        exit_code=exit_code,
        signal=signal_number,
        message=encodable(message)[:_MOST_MESSAGE],
        details=encodable(details)[-_MOST_DETAILS:],
        generation=ended.generation,
    )
    failure.time.FromDatetime(ended.time)
    return wire.Exited(
        generation=ended.generation, outcome=outcome, failure=failure, step=ended.step
    )


def never_ran(
    generation: int,
    worker: int,
    outcome: wire.Outcome,
    *,
    message: str,
    time: datetime,
    details: str = "",
) -> wire.Exited:
    """Return what the controller is told of a generation for which no trainer was started."""
    failure = job_pb2.Failure(
        reason=_REASONS[outcome],
        worker=worker,
        message=encodable(message)[:_MOST_MESSAGE],
        details=encodable(details)[-_MOST_DETAILS:],
        generation=generation,
    )
    failure.time.FromDatetime(time)
    return wire.Exited(generation=generation, outcome=outcome, failure=failure)
