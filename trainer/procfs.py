"""What the kernel says of a process. Linux only, stdlib only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# Fields of /proc/PID/stat behind the name, see proc(5).
STATE, PARENT, ENV_START, ENV_END = 0, 1, 47, 48


def pids() -> Iterator[int]:
    """Yield the numbers of all processes; each may be gone by then."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            yield int(folder.name)


def stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name. Raises OSError if it is gone.

    The name stands in parentheses and may hold anything: spaces, parentheses, and half of a
    character, since the kernel cuts it after 15 bytes.
    """
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return text.rpartition(")")[2].split()


def name(pid: int | str) -> str:
    """Return the name of a process as the kernel keeps it. Raises OSError if it is gone."""
    return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
