"""A program may have modules that are called as the service's packages are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.training import programs, scripts
from tests.training.groups import Job
from tests.training.scripts import Scripts
from trainer import import_path
from trainer.contract import ExitCode

pytestmark = pytest.mark.training

# For a module of the service: whoever imports it by mistake does not find what it looks for.
THEIRS = "OWNER = 'theirs'\n"
ELSEWHERE = dict.fromkeys(("controller.py", "taas/__init__.py", "serving/net.py"), THEIRS)
IMPORT_ALL = """
import controller, taas, serving.net, protos.shapes_pb2
assert {m.OWNER for m in (controller, taas, serving.net, protos.shapes_pb2)} == {"theirs"}
"""


def add(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def like_ours() -> dict[str, str]:
    """A package `trainer` with a module for every one that ours has."""
    ours = (import_path.ROOT / "trainer").glob("*.py")
    folders = ("data", "keras_compat")
    return {
        **{f"trainer/{path.name}": THEIRS for path in ours},
        **{f"trainer/{name}/__init__.py": THEIRS for name in folders},
    }


def test_a_script_whose_modules_are_called_as_ours(tmp_path: Path) -> None:
    job = Scripts(tmp_path).job(
        f"""
from trainer import data, loop, script_fit
import trainer.keras_compat, trainer.task
assert {{m.OWNER for m in (trainer, data, loop, script_fit, trainer.task)}} == {{"theirs"}}
{IMPORT_ALL}
{scripts.PLAIN}
""",
        "3",
        distribute=True,
    )
    add(job.source, {**like_ours(), **ELSEWHERE, "protos/shapes_pb2.py": THEIRS})
    group = job.start(2)
    assert group.wait() == [ExitCode.DONE] * 2, group.logs()
    assert job.records("checkpoint")


def test_a_task_whose_modules_are_called_as_ours(tmp_path: Path) -> None:
    top = f"from trainer.net import OWNER\nassert OWNER == 'theirs'\n{IMPORT_ALL}"
    folder = programs.write(tmp_path / "source", top + programs.GOOD)
    theirs = {"trainer/__init__.py": THEIRS, "trainer/net.py": THEIRS}
    add(folder, {**theirs, **ELSEWHERE, "protos/shapes_pb2.py": THEIRS})
    job = Job(tmp_path, folder, parameters={"steps": "6"})
    group = job.start(1)
    assert group.wait() == [ExitCode.DONE], group.logs()
    assert (job.paths.output / "model" / "saved_model.pb").is_file()
