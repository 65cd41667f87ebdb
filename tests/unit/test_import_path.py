"""Which module a program gets where it has one that is called as a package of the service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainer import import_path

SAY = """
import os, sys
from trainer import import_path, contract
os.chdir(sys.argv[1])
import_path.begin_with(sys.argv[1])
import_path.make_way(sys.path)
"""


def said(folder: Path, program: str, **env: str) -> list[str]:
    """What a program prints that runs in the folder, in a process that has the service's code."""
    command = [sys.executable, "-c", SAY + program, str(folder)]
    path = {"PYTHONPATH": str(import_path.ROOT)}
    done = subprocess.run(
        command,
        cwd=import_path.ROOT,
        env={**path, **env},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        pytest.param("trainer.py", "trainer", id="module"),
        pytest.param("trainer/__init__.py", "trainer", id="package"),
        pytest.param("trainer/net.py", "trainer.net", id="folder without __init__"),
        pytest.param("trainer/contract.py", "trainer.contract", id="module of the same name"),
    ],
)
def test_the_programs_own_comes_first(tmp_path: Path, file: str, imported: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    program = f"import {imported}, trainer.storage\nprint({imported}.__file__)"
    assert said(tmp_path, program) == [str(tmp_path / file)]


def test_without_a_namesake_the_services_is_found(tmp_path: Path) -> None:
    program = "import trainer.contract as c\nprint(c is contract, c.__file__)"
    assert said(tmp_path, program) == ["True", str(import_path.ROOT / "trainer" / "contract.py")]


def test_the_order_is_that_of_python(tmp_path: Path) -> None:
    """The program's folder, PYTHONPATH from where it runs, the rest, and ours at the end."""
    path = f"{import_path.ROOT}:src:/elsewhere"
    program = "print(*sys.path, os.environ['PYTHONPATH'])"
    *entries, variable = said(tmp_path, program, PYTHONPATH=path)
    assert entries[:3] == [str(tmp_path), str(tmp_path / "src"), "/elsewhere"]
    assert entries[-1] == str(import_path.ROOT)
    assert entries.count(str(import_path.ROOT)) == 1
    assert variable == "src:/elsewhere"


def test_processes_of_the_program_do_not_get_the_services_folder(tmp_path: Path) -> None:
    assert said(tmp_path, "print('PYTHONPATH' in os.environ)") == ["False"]
