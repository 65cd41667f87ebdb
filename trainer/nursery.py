"""Forks the agents of the local backend from a process that has imported TensorFlow: they have a
zygote at once, and nobody imports it again.

    python -m trainer.nursery --control FD

Serves a controller over a stream socket, one JSON object a line, until it hangs up:

    <- {"ready": seconds}                       after the imports
    -> {"env": {...}, "folder": path, "mark": [limit, number]} and 2 descriptors: log, lock
    <- {"pid": number} and a pidfd  or  {"error": text}
    -> {"reap": pid}                            of an agent that has died
    <- {"status": number}                       its wait status

An agent lives in a session of its own, holds the lock, bears the mark (a soft limit of resources)
and outlives this process and the controller. It shows the imports' memory as its own; all
of them share it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import select
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from trainer import agent, environment, forking, lifeline, zygote
from trainer.launcher import ENTRY, PRELOAD, QUIET, Warm

# Without an agent for so long it gives its memory back; the next controller that needs one starts
# another nursery.
_IDLE_S = 600.0


def main(argv: Sequence[str]) -> int:
    """Serve until the controller hangs up, or needs nothing for long."""
    parser = argparse.ArgumentParser(prog="trainer.nursery")
    parser.add_argument("--control", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args(argv).control)
    control.set_inheritable(False)
    forking.leave_signals_alone()
    lifeline.name_process("taas-nursery")
    began = time.monotonic()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    forking.preload(PRELOAD, ENTRY)
    # A controller that has gone meanwhile is no error.
    with contextlib.suppress(OSError):
        forking.send(control, {"ready": round(time.monotonic() - began, 3)})
        _serve(control)
    return 0


def _serve(control: socket.socket) -> None:
    while _has_agents() or select.select([control], [], [], _IDLE_S)[0]:
        received = forking.receive(control)
        if received is None:
            return
        request, descriptors = received
        if "reap" in request:
            forking.send(control, {"status": _reap(request["reap"])})
        else:
            _answer(control, request, descriptors)


def _has_agents() -> bool:
    """Say whether there are agents, or dead ones that nobody has asked for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _reap(pid: int) -> int:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return -1


def _answer(control: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
    """Fork an agent, and say so, or why it cannot be forked."""
    try:
        zygote.check_forkable()
        pid = os.fork()
        if pid == 0:
            _become_agent(control, request, *descriptors)
        pidfd = os.pidfd_open(pid)
    except (OSError, RuntimeError) as error:
        forking.send(control, {"error": str(error)})
        return
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    forking.send(control, {"pid": pid}, [pidfd])
    os.close(pidfd)


def _become_agent(control: socket.socket, request: dict[str, Any], log: int, lock: int) -> NoReturn:
    """Turn this fork into an agent with a zygote of its own, run it and end. Never returns."""
    code = 1
    try:
        control.close()
        os.setsid()
        forking.take_signals()
        limit, mark = request["mark"]
        resource.setrlimit(limit, (mark, resource.getrlimit(limit)[1]))
        os.chdir(request["folder"])
        # Where one was found while TensorFlow was imported is not this one's.
        tempfile.tempdir = None
        forking.connect_standard_streams(log, os.dup(log))
        environment.take_on({**QUIET, **agent.with_temporary_folder(request["env"])})
        code = agent.main(dict(os.environ), warm=_zygote(lock))
    except BaseException:
        traceback.print_exc()
    finally:
        forking.leave(code)


def _zygote(lock: int) -> Warm:
    """Fork a zygote from the agent that this process is about to be."""
    ours, theirs = socket.socketpair()
    of_agent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return Warm(pid, ours)
    try:
        # The lock says that the agent lives.
        os.close(lock)
        ours.close()
        forking.leave_signals_alone()
        lifeline.die_with(of_agent)
        lifeline.name_process("taas-zygote")
        forking.send(theirs, {"ready": 0.0})
        zygote.serve(theirs, agent=of_agent, entry=ENTRY)
    except BaseException:
        traceback.print_exc()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
