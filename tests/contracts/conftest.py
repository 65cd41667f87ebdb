"""Folders deeper than the tools that clean up after tests can go."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def dig() -> Iterator[Callable[[Path, int], int]]:
    """Make folders one in the other, a file beside each, and return the last one, open. What a
    test leaves of them goes: pytest itself could not remove it, and would fail in later runs."""
    outermost: list[int] = []

    def make(folder: Path, levels: int) -> int:
        above = os.open(folder, os.O_RDONLY)
        for level in range(levels):
            os.mkdir("x", dir_fd=above)
            below = os.open("x", os.O_RDONLY, dir_fd=above)
            os.close(os.open("file", os.O_CREAT, 0o600, dir_fd=above))
            if level == 0:
                outermost.append(os.dup(below))
            os.close(above)
            above = below
        return above

    yield make
    for fd in outermost:
        subprocess.run(["rm", "-rf", f"/proc/self/fd/{fd}/x"], pass_fds=[fd], check=True)
        os.close(fd)
