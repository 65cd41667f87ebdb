"""A service whose storage is a small disk of its own, to be filled."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.service.world import Service

# A file system of its own for the storage, seen by the service and its workers alone.
_SMALL_DISK = (
    *("unshare", "--map-root-user", "--mount", "sh", "-c"),
    'mkdir -p "$0" && mount -t tmpfs -o "size=$1m" taas "$0" && shift && exec "$@"',
)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Service]:
    """A running service whose storage is a disk of that size."""
    home = Path(tempfile.mkdtemp(prefix="taas-"))
    service = Service(home, wrapper=(*_SMALL_DISK, f"{home}/storage", str(megabytes)))
    service.start()
    try:
        yield service
    finally:
        service.close()


def disk(service: Service) -> Path:
    """Return the storage as the service sees it."""
    assert service.controller is not None
    return Path(f"/proc/{service.controller.pid}/root{service.home}/storage")


def fill(folder: Path) -> Path:
    """Take all room that is left on a disk; return the file to be removed."""
    path = folder / "hog"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return path
