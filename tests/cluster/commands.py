"""Runs other programs: quiet when they succeed, complete when they fail."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class CommandFailed(Exception):
    """A program that the test cluster needs ended with an error; carries what it said."""


def say(text: str) -> None:
    """One line of progress, on stderr, since stdout is for the shell to evaluate."""
    sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")
    sys.stderr.flush()


def run(
    *command: str | Path,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """What the command printed on stdout. Raises CommandFailed with all of its output."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, cwd=cwd, env=env, check=False
    )
    if done.returncode:
        said = (done.stdout[-2000:] + done.stderr[-8000:]).strip()
        raise CommandFailed(f"{' '.join(words)} ended with {done.returncode}:\n{said}")
    return done.stdout


def background(command: Sequence[str | Path]) -> list[str]:
    """The same command, which then takes only what others leave of processor and disk."""
    return ["nice", "-n", "19", "ionice", "-c3", *(str(word) for word in command)]


def wait_until(what: str, holds: Callable[[], bool], *, timeout_s: float = 120.0) -> None:
    """Returns when `holds()` is true. Raises TimeoutError that says what was waited for."""
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_s:.0f} s in vain for: {what}")
        time.sleep(0.1)
