"""Installs what a program's requirements.txt asks for: once a job, for all its workers.

The chief installs into a folder of the job's storage, and a rename makes it valid; every other
worker waits for that. Packages that the image has stay as they are: TensorFlow was built against
some of them, and lines that ask for TensorFlow itself, which has several names, are passed over.
Stdlib only, and pip as a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Mapping
from pathlib import Path

from trainer.storage import JobPaths, open_regular

FILE = "requirements.txt"
# What pip is given: the same without the lines for TensorFlow, beside it, because what a line
# names may lie there.
_FILTERED = ".taas-requirements.txt"
_TENSORFLOW = re.compile(r"tensorflow([-_.](cpu|gpu|intel))?\s*($|[\[=<>!~;#@ ])", re.IGNORECASE)
# How often a worker looks whether the chief is done, and pip whether it must stop.
_LOOK_EVERY_S = 0.2
_MOST_LINES, _MOST_BYTES = 40, 64 * 1024
# Runs pip and writes its exit code into a file. The agent reaps all children itself, so whoever
# else waits for one learns that it has ended, but not how.
_PIP = """\
import runpy, sys
code = sys.argv.pop(1)
try:
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
except SystemExit as leaving:
    with open(code, "w") as file:
        file.write(str(leaving.code or 0))
"""


class Unsatisfiable(Exception):
    """pip could not install what is asked for; the text is pip's."""


class Cancelled(Exception):
    """Nobody needs the packages any more."""


def install(
    paths: JobPaths,
    source: Path,
    *,
    is_chief: bool,
    env: Mapping[str, str],
    cancelled: threading.Event,
) -> Path | None:
    """Return the folder with the packages, None if the source asks for none. Blocks.

    `env` is added to pip's environment. Raises Unsatisfiable, Cancelled, OSError.
    """
    wanted = source / FILE
    if not wanted.is_file():
        return None
    overlay = paths.folder / "packages"
    if is_chief and not overlay.exists():
        _build(overlay, wanted, env=env, cancelled=cancelled)
    while not overlay.exists():
        if cancelled.wait(_LOOK_EVERY_S):
            raise Cancelled
    return overlay


def site_of(overlay: Path) -> Path:
    """Return the folder of an overlay that belongs on the import path."""
    return Path(sysconfig.get_path("purelib", vars={"base": str(overlay)}))


def _build(
    overlay: Path, wanted: Path, *, env: Mapping[str, str], cancelled: threading.Event
) -> None:
    fresh = overlay.with_name("packages.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    present = fresh / "present.txt"
    present.write_text("".join(f"{line}\n" for line in _present()))
    code = fresh / "exit-code"
    command = [sys.executable, "-c", _PIP, str(code), "install", "--prefix", str(fresh)]
    command += ["--no-input", "--disable-pip-version-check", "--no-warn-script-location"]
    command += ["--quiet", "--requirement", _FILTERED, "--constraint", str(present)]
    filtered = wanted.with_name(_FILTERED)
    # What is no text is pip's to complain of.
    text = wanted.read_text("utf-8", errors="surrogateescape")
    filtered.write_text(_without_tensorflow(text), "utf-8", errors="surrogateescape")
    said = fresh / "pip.txt"
    with said.open("wb") as log:
        pip = subprocess.Popen(
            command,
            cwd=wanted.parent,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(pip, cancelled)
        finally:
            filtered.unlink(missing_ok=True)
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    ended = _end_of(code) or "none"
    if ended != "0":
        lines = _end_of(said).strip().splitlines()[-_MOST_LINES:]
        raise Unsatisfiable("\n".join(lines) or f"pip ended with exit code {ended}")
    fresh.rename(overlay)


def _end_of(file: Path) -> str:
    """Return the end of a text, "" if there is none: what pip builds runs programs of others, and
    they could have put anything there."""
    try:
        with open_regular(file) as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _MOST_BYTES))
            return stream.read(_MOST_BYTES).decode(errors="replace")
    except (FileNotFoundError, ValueError):
        return ""


def _wait(process: subprocess.Popen[bytes], cancelled: threading.Event) -> None:
    while True:
        try:
            process.wait(_LOOK_EVERY_S)
            return
        except subprocess.TimeoutExpired:
            if cancelled.is_set():
                raise Cancelled from None


def _without_tensorflow(text: str) -> str:
    return "".join(
        line for line in text.splitlines(keepends=True) if not _TENSORFLOW.match(line.strip())
    )


def _present() -> list[str]:
    """Return what the image has, as constraints."""
    found = {
        each.metadata["Name"]: each.version
        for each in importlib.metadata.distributions()
        if each.metadata["Name"]
    }
    return sorted(f"{name}=={version}" for name, version in found.items())
