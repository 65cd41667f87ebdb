"""What a user writes, and what is said when it is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from trainer import task
from trainer.task import Params, Task, TaskError


@dataclass(frozen=True)
class Hyper(Params):
    rate: float = 0.1
    units: int = 10
    name: str = "adam"
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    layers: tuple[int, ...] = (4, 4)
    limit: int | None = None


@dataclass(frozen=True)
class Needed(Params):
    path: str


class FakeExamples:
    """Enough of Examples for the checks of Task."""

    def __init__(self, size: int = 1000, class_names: tuple[str, ...] | None = None) -> None:
        self.size = size
        self.class_names = class_names

    def fetch(self) -> None:
        """Be recognised."""


def make(**changes: object) -> Task:
    values: dict[str, object] = {
        "model": lambda: None,
        "loss": "mse",
        "optimizer": "sgd",
        "train": FakeExamples(),
        "global_batch": 10,
        "steps": 100,
    }
    return Task(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rate", "1e-3", 0.001),
        ("rate", "2", 2.0),
        ("units", "-3", -3),
        ("name", "sgd with space", "sgd with space"),
        ("fast", "True", True),
        ("fast", "0", False),
        ("kind", "b", "b"),
        ("layers", "1, 2,3", (1, 2, 3)),
        ("layers", "", ()),
        ("limit", "none", None),
        ("limit", "5", 5),
    ],
)
def test_parameters_are_parsed_by_their_type(name: str, text: str, value: object) -> None:
    parsed = getattr(Hyper.parse({name: text}), name)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lr": "1"}, "unknown parameter 'lr'"),
        ({"rate": "fast"}, "rate='fast': not a number"),
        ({"rate": "nan"}, "not a number"),
        ({"units": "1.5"}, "units='1.5': not a whole number"),
        ({"fast": "maybe"}, "not true or false"),
        ({"kind": "c"}, "not one of a, b"),
        ({"layers": "1,x"}, "not a whole number"),
    ],
)
def test_a_bad_parameter_is_named_with_all_known_ones(values: dict[str, str], said: str) -> None:
    with pytest.raises(TaskError) as caught:
        Hyper.parse(values)
    assert said in str(caught.value)
    assert "rate: float = 0.1, units: int = 10, name: str = 'adam'" in str(caught.value)


def test_a_parameter_without_default_must_be_given() -> None:
    with pytest.raises(TaskError, match="parameter 'path' has no default"):
        Needed.parse({})
    assert Needed.parse({"path": "x"}).path == "x"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": 3}, "Task.model must be a function"),
        ({"global_batch": 0}, "Task.global_batch must be a whole number above 0, not 0"),
        ({"steps": None}, "one of steps and epochs"),
        ({"epochs": 2}, "one of steps and epochs"),
        ({"steps": 0}, "ends before its first step: steps=0"),
        ({"steps": None, "epochs": -1}, "epochs=-1"),
        ({"train": [1, 2]}, "Task.train must be examples made by trainer.data"),
        ({"validation": "x"}, "Task.validation must be examples"),
        ({"train": FakeExamples(0)}, "Task.train holds no example"),
        ({"ema": 1.0}, "Task.ema"),
        ({"evaluate_every": -1}, "Task.evaluate_every"),
    ],
)
def test_a_task_that_cannot_work_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(TaskError, match=said):
        make(**changes)


@pytest.mark.parametrize(
    ("changes", "total", "evaluation", "summary"),
    [
        ({"steps": 100}, 100, 100, 1),
        ({"steps": None, "epochs": 2}, 200, 100, 1),
        ({"steps": None, "epochs": 0.25, "global_batch": 96}, 3, 10, 1),
        ({"steps": 5000}, 5000, 100, 20),
        ({"steps": 10**6, "evaluate_every": 7, "summary_every": 3}, 10**6, 7, 3),
        ({"steps": 10**6}, 10**6, 100, 100),
    ],
)
def test_schedule(changes: dict[str, object], total: int, evaluation: int, summary: int) -> None:
    made = make(**changes)
    assert (made.total_steps, made.evaluation_interval, made.summary_interval) == (
        total,
        evaluation,
        summary,
    )


def test_class_names_come_from_the_examples_unless_given() -> None:
    named = FakeExamples(class_names=("cat", "dog"))
    assert make(train=named).classes == ("cat", "dog")
    assert make(train=named, class_names=["a", "b"]).classes == ("a", "b")
    assert make().classes is None


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path, module = list(sys.path), sys.modules.get(task.MODULE_NAME)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop(task.MODULE_NAME, None)
    if module:
        sys.modules[task.MODULE_NAME] = module


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "task.py defines no function task"),
        ("def task(a, b): ...", "must take one argument"),
        ("def task(a: int): ...", "must be a subclass of trainer.task.Params"),
        ("def task(): return 3", "must return a trainer.task.Task, not int"),
    ],
)
def test_a_module_that_is_no_task_is_refused(folder: Path, text: str, said: str) -> None:
    (folder / "task.py").write_text(text)
    with pytest.raises(TaskError, match=said):
        task.load(folder, "task.py", {})


def test_a_missing_module_is_named(folder: Path) -> None:
    with pytest.raises(TaskError, match=r"no file 'mine\.py'"):
        task.load(folder, "mine.py", {})


def test_the_users_own_error_passes_through(folder: Path) -> None:
    (folder / "task.py").write_text("import not_there_at_all")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        task.load(folder, "task.py", {})


def test_parameters_reach_the_task(folder: Path) -> None:
    (folder / "beside.py").write_text("SIZE = 3")
    (folder / "task.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from beside import SIZE\n"
        "from trainer.task import Params, Task\n"
        "class Examples:\n"
        "    size = 10\n"
        "    class_names = None\n"
        "    def fetch(self): ...\n"
        "@dataclass(frozen=True)\n"
        "class Mine(Params):\n"
        "    steps: int = 1\n"
        "def task(params: Mine) -> Task:\n"
        "    return Task(model=lambda: None, loss='mse', optimizer='sgd', train=Examples(),\n"
        "                global_batch=SIZE, steps=params.steps)\n"
    )
    made = task.load(folder, "task.py", {"steps": "7"})
    assert (made.steps, made.global_batch) == (7, 3)
