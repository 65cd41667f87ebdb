"""What processes share that import TensorFlow once and fork others: messages, imports, streams.

Messages are JSON objects, one a line, over a stream socket that carries descriptors as well.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

_MOST_DESCRIPTORS = 4
_SIGNALS_OF_THE_POD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def preload(modules: Sequence[str], entry: str) -> None:
    """Import modules, and that of an entry (MODULE:FUNCTION), for all forks to come."""
    # What is imported stays. The collector finds next to nothing in it, at a sixth of the time
    # that the imports take, and need not walk it in each fork either, which would copy the
    # pages that they share.
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    importlib.import_module(entry.partition(":")[0])
    gc.freeze()
    gc.enable()


def send(control: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a message, with descriptors."""
    line = json.dumps(message).encode() + b"\n"
    if descriptors:
        line = line[socket.send_fds(control, [line[:4096]], list(descriptors)) :]
    control.sendall(line)


def receive(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next message and its descriptors, or None when the other side has hung up.

    For sides that take turns: of a second message that came with the first nothing is kept.
    """
    text = b""
    descriptors: list[int] = []
    while not text.endswith(b"\n"):
        data, new, _, _ = socket.recv_fds(
            control, 65536, _MOST_DESCRIPTORS, getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        )
        if not data:
            return None
        text += data
        descriptors += new
    return json.loads(text), descriptors


def leave_signals_alone() -> None:
    """Ignore the signals of the pod: whoever keeps this process ends it by hanging up."""
    for number in _SIGNALS_OF_THE_POD:
        signal.signal(number, signal.SIG_IGN)


def take_signals() -> None:
    """Have the signals of the pod do in a fork what they do in any Python process."""
    for number in _SIGNALS_OF_THE_POD:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def connect_standard_streams(out: int, err: int) -> None:
    """Read nothing, and write to these descriptors, which are closed."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
        os.close(source)
    # Made anew, because the old ones remember what kind of file they wrote to.
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = io.FileIO(number, "w", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def leave(code: int) -> NoReturn:
    """End a fork with an exit code, at once: the orderly end of an interpreter with TensorFlow in
    it takes most of a second, and peers wait for this process's sockets to close."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)
