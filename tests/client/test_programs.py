"""What a source is run as: what was said counts, else what it looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from protos.taas.v1.job_pb2 import CommandProgram, ScriptProgram, TaskProgram, TrainingJobSpec
from taas import programs
from taas.errors import InvalidRequest
from taas.programs import Wish


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text("def task():\n    pass\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train.py").write_text("print('hello')\n")
    (tmp_path / "broken.py").write_text("def task(:\n")
    return tmp_path


def chosen(source: Path | None, wish: Wish, **given: Any) -> TrainingJobSpec:
    spec = TrainingJobSpec(**given)
    programs.choose(spec, source, wish)
    return spec


@pytest.mark.parametrize(
    ("source", "wish", "given", "expected"),
    [
        pytest.param("", Wish(), {}, TaskProgram(module="task.py"), id="folder"),
        pytest.param("task.py", Wish(), {}, TaskProgram(module="task.py"), id="a file with a task"),
        pytest.param(
            "", Wish(module="task.py"), {}, TaskProgram(module="task.py"), id="named task"
        ),
        pytest.param(
            "other/train.py", Wish(), {}, ScriptProgram(path="train.py"), id="a file without one"
        ),
        pytest.param("broken.py", Wish(), {}, ScriptProgram(path="broken.py"), id="broken"),
        pytest.param(
            "task.py",
            Wish(words=("-v",)),
            {},
            ScriptProgram(path="task.py", arguments=["-v"]),
            id="a file with arguments",
        ),
        pytest.param(
            "task.py",
            Wish(distribute=True),
            {},
            ScriptProgram(path="task.py", distribute=True),
            id="a file to distribute",
        ),
        pytest.param(
            "",
            Wish(script="other/train.py", words=(), own_checkpoints=True),
            {},
            ScriptProgram(path="other/train.py", own_checkpoints=True),
            id="script in a folder",
        ),
        pytest.param(
            "",
            Wish(words=("python", "-m", "x")),
            {},
            CommandProgram(words=["python", "-m", "x"]),
            id="command",
        ),
        pytest.param(
            "",
            Wish(words=("b",)),
            {"script": ScriptProgram(path="task.py", arguments=["a"])},
            ScriptProgram(path="task.py", arguments=["b"]),
            id="arguments over a document's",
        ),
        pytest.param(
            None,
            Wish(),
            {"script": ScriptProgram(path="/opt/train.py")},
            ScriptProgram(path="/opt/train.py"),
            id="in the image",
        ),
        pytest.param(
            None,
            Wish(),
            {"command": CommandProgram(words=["a"])},
            CommandProgram(words=["a"]),
            id="command in the image",
        ),
    ],
)
def test_choice(
    folder: Path, source: str | None, wish: Wish, given: dict[str, Any], expected: Any
) -> None:
    spec = chosen(None if source is None else folder / source, wish, **given)
    assert getattr(spec, str(spec.WhichOneof("program"))) == expected


@pytest.mark.parametrize(
    ("source", "wish", "field", "says"),
    [
        pytest.param("none", Wish(), "source", "does not exist", id="nothing"),
        pytest.param(
            "other", Wish(), "spec.task.module", "a command after --", id="folder without a task"
        ),
        pytest.param("other", Wish(module="x.py"), "spec.task.module", "correct --module", id="x"),
        pytest.param(
            "", Wish(script="train.py"), "spec.script.path", "correct --script", id="no script"
        ),
        pytest.param(
            "", Wish(distribute=True), "spec.script.path", "name a script", id="which script"
        ),
        pytest.param(
            "task.py", Wish(script="other.py"), "spec.script.path", "is not in", id="other file"
        ),
        pytest.param(
            "", Wish(module="task.py", distribute=True), "--module", "choose one", id="both"
        ),
        pytest.param(
            "", Wish(module="task.py", words=("a",)), "--", "parameters with -p", id="task's words"
        ),
    ],
)
def test_what_cannot_be_chosen(
    folder: Path, source: str, wish: Wish, field: str, says: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chosen(folder / source, wish)
    (violation,) = refused.value.violations
    assert violation.field == field
    assert says in violation.why
