"""The processes of a job's workers, on whatever backend: found by what they were started with."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer import contract, procfs

AGENT, TRAINER = "taas-agent", "taas-trainer"
# Only keeps a broken run from hanging.
BOUND_S = 240.0


def until(
    holds: Callable[[], object], what: str, *, every_s: float = 0.02, bound_s: float = BOUND_S
) -> None:
    """Return when the condition holds. Raises TimeoutError that says what was waited for."""
    end = time.monotonic() + bound_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {bound_s:.0f} s in vain for {what}")
        time.sleep(every_s)


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a worker. name: what it calls itself; pod: the uid of its pod."""

    pid: int
    name: str
    index: int
    pod: str

    @property
    def lives(self) -> bool:
        """Whether it is there and has not ended."""
        return _state(self.pid) not in ("", "Z", "X")

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def of_job(uid: str, *names: str) -> list[Process]:
    """The processes of a job's workers; only those called so, if names are given. Containers of
    the test cluster are processes of this machine."""
    return [*_found(uid, names)]


def _found(uid: str, names: tuple[str, ...]) -> Iterator[Process]:
    for pid in procfs.pids():
        try:
            name = procfs.name(pid)
            if names and name not in names:
                continue
            raw = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if b"TAAS_" not in raw:
            continue
        pairs = (item.partition(b"=") for item in raw.split(b"\0"))
        env = {key.decode(errors="replace"): value for key, _, value in pairs}
        if env.get(contract.ENV_JOB_UID) == uid.encode():
            index = int(env[contract.ENV_WORKER_INDEX])
            yield Process(pid, name, index, env[contract.ENV_POD_UID].decode())


def trainers(uid: str) -> dict[int, Process]:
    """The trainers of a job that live, by worker."""
    return {p.index: p for p in of_job(uid, TRAINER) if p.lives}


def agent_of(uid: str, trainer: Process) -> Process | None:
    """The agent that looks after a trainer, if it lives."""
    agents = (p for p in of_job(uid, AGENT) if p.pod == trainer.pod and p.lives)
    return next(agents, None)


def stop(processes: Iterable[Process]) -> None:
    """Stop processes, and return when none of their threads runs."""
    stopped = [*processes]
    for process in stopped:
        process.send(signal.SIGSTOP)
    until(lambda: all(stands(p) for p in stopped), "processes to stop", every_s=0.001)


def go_on(processes: Iterable[Process]) -> None:
    """Let stopped processes run again."""
    for process in processes:
        process.send(signal.SIGCONT)


def stands(process: Process) -> bool:
    """Whether none of its threads runs: it is stopped, or has ended."""
    threads = Path(f"/proc/{process.pid}/task").glob("*")
    states = (_state(f"{process.pid}/task/{thread.name}") for thread in threads)
    return all(state in ("T", "Z", "X", "") for state in states)


def _state(pid: int | str) -> str:
    try:
        return procfs.stat(pid)[procfs.STATE]
    except OSError:
        return ""
