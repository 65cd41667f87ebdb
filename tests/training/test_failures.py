"""How a trainer ends when the program is at fault, or is stopped before it has begun."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.training import programs
from tests.training.groups import TIMEOUT_S, Job
from trainer.contract import ExitCode

pytestmark = pytest.mark.training


@pytest.mark.parametrize(
    ("text", "code", "message", "first"),
    [
        pytest.param(
            programs.bad(top="import not_there"),
            ExitCode.INVALID,
            "ModuleNotFoundError: No module named 'not_there'",
            "import not_there",
            id="import",
        ),
        pytest.param(
            programs.bad(task="data.idx('no/images.gz', 'no/labels.gz')"),
            ExitCode.INVALID,
            "no/images.gz: ",
            "data.idx('no/images.gz', 'no/labels.gz')",
            id="data",
        ),
        pytest.param(
            programs.bad(model="raise KeyError('my model')"),
            ExitCode.INVALID,
            "KeyError: 'my model'",
            "raise KeyError('my model')",
            id="model",
        ),
        pytest.param(
            programs.bad(loss="return keras.ops.mean(outputs)"),
            ExitCode.INVALID,
            "the loss 'loss' gives one number for the whole batch",
            None,
            id="loss",
        ),
        pytest.param(
            # Only the training step sees 5 examples; the sample before it has 8.
            programs.bad(loss="assert outputs.shape[0] != 5, 'in the first trace'"),
            ExitCode.INVALID,
            "AssertionError: in the first trace",
            "assert outputs.shape[0] != 5, 'in the first trace'",
            id="trace",
        ),
        pytest.param(
            programs.bad(rate="1e9"),
            ExitCode.CRASHED,
            "lower the learning rate",
            None,
            id="diverged",
        ),
        pytest.param(
            "def task(): return 3",
            ExitCode.INVALID,
            "task() in task.py must return a trainer.task.Task, not int",
            None,
            id="no-task",
        ),
    ],
)
def test_a_fault_of_the_program_is_reported_with_its_own_lines(
    tmp_path: Path, text: str, code: ExitCode, message: str, first: str | None
) -> None:
    job = Job(tmp_path, programs.write(tmp_path / "source", text))
    group = job.start(1)
    assert group.wait() == [code], group.logs()
    (failure,) = [r for r in group.reports(0) if r["type"] == "failure"]
    assert message in failure["message"]
    if first:
        lines = failure["details"].splitlines()
        assert "task.py" in lines[1]
        assert first in failure["details"]
        assert "trainer/run.py" not in failure["details"]


def test_a_stop_during_start_up_ends_at_once(tmp_path: Path) -> None:
    mark = tmp_path / "begun"
    waiting = f"import pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(600)"
    job = Job(tmp_path, programs.write(tmp_path / "source", programs.bad(task=waiting)))
    group = job.start(1)
    until = time.monotonic() + TIMEOUT_S
    while not mark.exists():
        assert time.monotonic() < until, group.logs()
        time.sleep(0.02)
    group.terminate(0)
    assert group.wait() == [ExitCode.SAVED], group.logs()
    assert not list(job.paths.checkpoints.glob("step-*"))
