"""requirements.txt is honoured once a job, and what cannot be installed is said by pip."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from trainer import requirements
from trainer.storage import JobPaths


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    return JobPaths(tmp_path / "storage", "team", "job", "uid-1")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    wheel(folder)
    return folder


def wheel(folder: Path) -> None:
    """Make a wheel of one module, which needs no index to be installed."""
    info = "tiny_thing-1.5.dist-info"
    files = {
        "tiny_thing.py": "VALUE = 7\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.5\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for name, text in files.items()
    }
    record = "".join(f"{n},sha256={d},{len(files[n])}\n" for n, d in digests.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / "tiny_thing-1.5-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def install(paths: JobPaths, source: Path, *, is_chief: bool = True) -> Path | None:
    # No index: what is asked for lies beside, or cannot be had.
    return requirements.install(
        paths,
        source,
        is_chief=is_chief,
        env={"PIP_NO_INDEX": "1"},
        cancelled=threading.Event(),
    )


def test_a_source_without_the_file_needs_nothing(paths: JobPaths, source: Path) -> None:
    assert install(paths, source) is None


def test_packages_are_installed_once_and_then_there_for_all(paths: JobPaths, source: Path) -> None:
    wanted = source / "requirements.txt"
    wanted.write_text("# mine\ntensorflow>=1.0\nnumpy\n./tiny_thing-1.5-py3-none-any.whl\n")
    overlay = install(paths, source)
    assert overlay is not None
    site = requirements.site_of(overlay)
    command = [sys.executable, "-c", "import tiny_thing; print(tiny_thing.VALUE)"]
    told = subprocess.run(
        command, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True
    )
    assert told.stdout == "7\n"
    # The image's own are used as they are.
    assert sorted(p.name for p in site.iterdir() if "tiny" not in p.name) in ([], ["__pycache__"])
    assert sorted(p.name for p in source.iterdir()) == [
        "requirements.txt",
        "tiny_thing-1.5-py3-none-any.whl",
    ]
    wanted.write_text("no-such-package\n")
    assert install(paths, source) == overlay
    assert install(paths, source, is_chief=False) == overlay


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("no-such-package==1.0", "no-such-package", id="unknown"),
        pytest.param("numpy==1.0", "numpy", id="another version than the image's"),
        pytest.param("== what", "what", id="no requirement"),
    ],
)
def test_what_pip_says_is_passed_on(paths: JobPaths, source: Path, line: str, says: str) -> None:
    (source / "requirements.txt").write_text(line)
    with pytest.raises(requirements.Unsatisfiable, match=says):
        install(paths, source)
    assert not (paths.folder / "packages").exists()


def test_a_worker_that_waits_for_the_chief_can_be_stopped(paths: JobPaths, source: Path) -> None:
    (source / "requirements.txt").write_text("numpy")
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(requirements.Cancelled):
        requirements.install(paths, source, is_chief=False, env={}, cancelled=cancelled)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("tensorflow", False),
        ("TensorFlow-CPU==2.21", False),
        ("tensorflow[and-cuda]", False),
        ("tensorflow ; python_version > '3'", False),
        ("tensorflow-datasets", True),
        ("tensorflow_probability==0.1", True),
        ("tensorflow-hub>1", True),
    ],
)
def test_only_tensorflow_itself_is_passed_over(line: str, kept: bool) -> None:
    assert bool(requirements._without_tensorflow(f"{line}\n")) == kept


def test_what_is_no_text_is_refused_by_pip(paths: JobPaths, source: Path) -> None:
    (source / "requirements.txt").write_bytes(b"\xff\xfe\x00caf\xe9 ==\n")
    with pytest.raises(requirements.Unsatisfiable):
        install(paths, source)


def test_what_a_package_writes_over_the_files_of_pip_is_not_believed(
    paths: JobPaths, source: Path
) -> None:
    """It leaves a pipe where pip's words were, rubbish where its exit code is, and ends pip."""
    fresh = paths.folder / "packages.new"
    hostile = f"""\
import os, pathlib, signal
def build_wheel(*_):
    pathlib.Path({str(fresh / "exit-code")!r}).write_bytes(bytes([255]))
    os.unlink({str(fresh / "pip.txt")!r})
    os.mkfifo({str(fresh / "pip.txt")!r})
    os.kill(os.getppid(), signal.SIGKILL)
"""
    (source / "backend.py").write_text(hostile)
    built = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (source / "pyproject.toml").write_text(f'{built}[project]\nname = "x"\nversion = "1"\n')
    (source / "requirements.txt").write_text(".\n")
    with pytest.raises(requirements.Unsatisfiable, match="pip ended with exit code"):
        install(paths, source)
