"""Fixtures: a double on a socket, and a command line that talks to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from taas import cli
from taas.client import Client
from taas.service import LocalService
from tests.client.double import Double, Running


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A double that plays no script by itself."""
    service = Running(Double(), tmp_path / "s.sock")
    service.up()
    yield service
    service.double.stop()
    service.down()


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    """A client of the double."""
    with Client(running.target) as connected:
        yield connected


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    """A user's folder."""
    folder = tmp_path / "My Task"
    folder.mkdir()
    (folder / "task.py").write_text("def task():\n    return None\n")
    return folder


@pytest.fixture
def job(client: Client, task_folder: Path) -> str:
    """Resource name of a job with two workers."""
    return client.submit(task_folder, name="mnist", workers=2, parameters={"epochs": 3}).name


@dataclass
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def taas(
    running: Running,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., Answer]:
    """Run a command against the double."""
    monkeypatch.setenv("TAAS_TARGET", running.target)
    monkeypatch.setenv("TAAS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> Answer:
        code = cli.main(argv)
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return call


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalService]:
    """The service of a state folder on this machine, not started; it plays the good script."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "double-settings.json").write_text(json.dumps({"script": "good"}))
    service = LocalService(home, command=[sys.executable, "-m", "tests.client.double"])
    yield service
    pid_file = home / "double.pid"
    if pid_file.exists() and service.info() is not None:
        double = psutil.Process(int(pid_file.read_text()))
        double.terminate()
        double.wait(60)
