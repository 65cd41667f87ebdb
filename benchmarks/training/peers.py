"""Installs the packages of peers below build/, once, beside the TensorFlow that is here.

They come last on a program's import path, so what they share with the project (NumPy, protobuf)
is the project's; TensorFlow itself is not installed again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sides import SideFailed
from benchmarks.sides.scratch import ROOT

# Where all of them are.
FOLDER = ROOT / "build/peers"
_MARK = "installed"


@dataclass(frozen=True, slots=True)
class Peer:
    """A package in one version."""

    name: str
    requirement: str
    # False where they are all here, under whatever name.
    dependencies: bool = True


RAY = Peer("ray", "ray[train]==2.60.0")
# It asks for `tensorflow`, and here that is called tensorflow-cpu.
TF_KERAS = Peer("tf-keras", "tf-keras==2.21.0", dependencies=False)


def provide(peer: Peer) -> Path:
    """Return the folder to import it from. Raises SideFailed if it cannot be installed."""
    folder = FOLDER / peer.name
    mark = folder / _MARK
    if mark.exists() and mark.read_text() == peer.requirement:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(folder), *([] if peer.dependencies else ["--no-deps"])]
    print(f"installing {peer.requirement} into {folder.relative_to(ROOT)}", file=sys.stderr)
    done = subprocess.run([*command, peer.requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SideFailed(f"{peer.requirement} cannot be installed: {done.stderr[-500:].strip()}")
    mark.write_text(peer.requirement)
    return folder
