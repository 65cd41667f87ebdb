"""Brings the event files of a job's TensorBoard here, and keeps them as new as the job's own."""

from __future__ import annotations

from pathlib import Path

from taas import download
from taas.client import Client

# Where a job's output has them.
_FOLDER = "tensorboard/"


def refresh(client: Client, name: str, folder: Path) -> int:
    """Fetch what the job has written since the last time, and return how many bytes that were.

    Files grow in place: whoever reads them goes on where it was. One that has become shorter is
    another file, and begins anew. Raises what the client raises.
    """
    fetched = 0
    for file in client.files(name):
        if not file.path.startswith(_FOLDER):
            continue
        download.check_path(file.path)
        place = folder / file.path.removeprefix(_FOLDER)
        have = place.stat().st_size if place.exists() else 0
        if have == file.size_bytes:
            continue
        if have > file.size_bytes:
            place.unlink()
            have = 0
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("ab") as out:
            for data in client.read(name, file.path, offset=have):
                fetched += out.write(data)
    return fetched
