"""Gets PyTorch for processors from Debian, unpacked below build/ and installed nowhere.

PyPI's builds of today come with CUDA, 3 GB of it. Debian 12 has 1.13.1, built for processors, with
gloo; it goes with Debian's own Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from benchmarks.sides import SideFailed
from benchmarks.sides.scratch import ROOT
from benchmarks.training.peers import FOLDER

PYTHON = "/usr/bin/python3"
# OpenBLAS, since the BLAS that Debian takes by default is the slow reference.
_PACKAGES = ("python3-torch", "libopenblas0-pthread")
_FOLDER = FOLDER / "debian-torch"
# Where packages keep libraries that others are meant to find.
_LIBRARIES = (
    "usr/lib/x86_64-linux-gnu/openblas-pthread",
    "usr/lib/x86_64-linux-gnu/lapack",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib",
    "lib/x86_64-linux-gnu",
)


def provide() -> dict[str, str]:
    """Return the environment in which PYTHON imports torch. Raises SideFailed if it cannot be
    had."""
    mark = _FOLDER / "unpacked"
    if not mark.exists():
        print(f"unpacking {_PACKAGES[0]} into {_FOLDER.relative_to(ROOT)}", file=sys.stderr)
        shutil.rmtree(_FOLDER, ignore_errors=True)
        _unpack()
        mark.touch()
    libraries = [str(_FOLDER / place) for place in _LIBRARIES]
    return os.environ | {
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PYTHONPATH": f"{ROOT}:{_FOLDER}/usr/lib/python3/dist-packages",
    }


def _unpack() -> None:
    archives = _FOLDER / "archives"
    (archives / "partial").mkdir(parents=True)
    # What the machine has already is not fetched, and is found where it is.
    fetching = ["apt-get", "install", "--download-only", "--no-install-recommends", "-y", "-q"]
    fetching += ["-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1"]
    _do(*fetching, *_PACKAGES)
    for archive in sorted(archives.glob("*.deb")):
        _do("dpkg-deb", "-x", str(archive), str(_FOLDER))
    shutil.rmtree(archives)


def _do(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SideFailed(f"no Debian here: {error}") from error
    if done.returncode:
        raise SideFailed(f"{command[0]}: {done.stderr[-500:].strip()}")
