"""Where the service of this user keeps its state and listens. Reads the environment."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from taas.errors import ServiceUnavailable

# sockaddr_un holds 108 bytes on Linux and 104 elsewhere; gRPC wants a little of it.
_MAX_SOCKET_PATH = 100


def state_folder() -> Path:
    """Return the state folder: $TAAS_HOME, $XDG_STATE_HOME/taas or ~/.local/state/taas."""
    if home := os.environ.get("TAAS_HOME"):
        return Path(home).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser().absolute() / "taas"


def socket_path(home: Path) -> Path:
    """Return where the service of that state folder listens."""
    path = home / "taas.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(f"/tmp/taas-{os.getuid()}") / f"{digest}.sock"


def target_of(home: Path) -> str:
    """Return the gRPC target of that state folder's service.

    Raises ServiceUnavailable if its socket lies in a folder that others may write to: what
    answers there may be anybody.
    """
    socket = socket_path(home)
    if socket.parent != home and socket.parent.exists():
        check_private(socket.parent)
    return f"unix:{socket}"


def default_target() -> str:
    """Return the gRPC target to call: $TAAS_TARGET, else this user's service on this machine."""
    return os.environ.get("TAAS_TARGET") or target_of(state_folder())


def check_private(folder: Path) -> None:
    """Raise ServiceUnavailable unless the folder is this user's and nobody else may enter."""
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise ServiceUnavailable(
            f"{folder} is not a folder that is yours alone; remove it, or set TAAS_HOME to a "
            "shorter path"
        )
