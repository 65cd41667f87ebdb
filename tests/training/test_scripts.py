"""Scripts run as they are: alone, in a group, and to every kind of end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training import scripts
from tests.training.scripts import Scripts, facts
from trainer.contract import ExitCode, Stage

pytestmark = pytest.mark.training


@pytest.fixture
def make(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def test_a_plain_script_is_told_of_and_saved_without_a_line_in_it(make: Scripts) -> None:
    job = make.job(scripts.PLAIN, "4")
    group = job.start(1)
    assert group.wait() == [ExitCode.DONE], group.logs()
    (told,) = facts(group)
    assert told["epochs"] == 4
    progress = job.records("progress")[-1]["progress"]
    assert (progress["step"], progress["totalSteps"], progress["epoch"]) == ("48", "48", 4.0)
    assert progress["loss"] == pytest.approx(told["last"])
    assert set(progress["metrics"]) == {"mae"}
    looks = [r["evaluation"] for r in job.records("evaluation")]
    assert [(e["dataset"], e["step"]) for e in looks] == [
        *[("validation", str(12 * n)) for n in (1, 2, 3, 4)],
        ("test", "48"),
    ]
    assert looks[-1]["metrics"]["loss"] == pytest.approx(told["loss"])
    assert job.records("checkpoint")[-1]["checkpoint"]["step"] == "48"
    assert (job.paths.output / "model.keras").is_file()
    assert list((job.paths.output / "tensorboard" / "train").iterdir())
    stages = [r["stage"] for r in group.reports(0) if r["type"] == "stage"]
    assert (stages[0], stages[-1]) == (Stage.STARTING, Stage.FINISHING)


def test_a_script_is_main_in_its_own_folder_with_its_arguments(make: Scripts) -> None:
    job = make.job(
        """
import atexit, os, sys, threading
import helper
assert __name__ == "__main__" and sys.modules["__main__"].__file__ == __file__
print("here", os.path.samefile(os.path.dirname(__file__), os.getcwd()), sys.argv, helper.VALUE)
atexit.register(print, "at exit")
threading.Timer(0.1, print, ["from a thread"]).start()
sys.exit()
""",
        "--rate",
        "a b",
    )
    (job.source / "helper.py").write_text("VALUE = 7\n")
    group = job.start(1)
    assert group.wait() == [ExitCode.DONE], group.logs()
    log = group.log(0).read_text()
    assert "here True ['train.py', '--rate', 'a b'] 7" in log
    assert log.index("from a thread") < log.index("at exit")


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        pytest.param("1/0", ExitCode.INVALID, "ZeroDivisionError: division by zero", id="error"),
        pytest.param("x = (", ExitCode.INVALID, "SyntaxError", id="syntax"),
        pytest.param("import sys; sys.exit(3)", ExitCode.INVALID, "exit code 3", id="exit"),
        pytest.param("import sys; sys.exit('no')", ExitCode.INVALID, "left with: no", id="text"),
        pytest.param(scripts.LONELY_FIT + "1/0", ExitCode.CRASHED, "ZeroDivision", id="later"),
        pytest.param(scripts.LONELY_LOOP + "1/0", ExitCode.CRASHED, "ZeroDivision", id="loop"),
    ],
)
def test_a_bad_end_is_told_in_the_scripts_own_words(
    make: Scripts, text: str, code: int, says: str
) -> None:
    group = make.job(text).start(1)
    assert group.wait() == [code]
    (failure,) = [r for r in group.reports(0) if r["type"] == "failure"]
    assert says in failure["message"]
    assert "trainer/script" not in failure["details"]


def test_workers_draw_the_same_random_numbers(make: Scripts) -> None:
    group = make.job(scripts.UNSEEDED).start(2)
    assert group.wait() == [0, 0], group.logs()
    (one,), (other,) = facts(group, 0), facts(group, 1)
    assert one == other
    assert one["order"] != list(range(20))


def test_a_loop_with_a_strategy_of_its_own(make: Scripts) -> None:
    group = make.job(scripts.CUSTOM_LOOP).start(2)
    assert group.wait() == [0, 0], group.logs()
    told = [facts(group, position) for position in (0, 1)]
    assert told[0] == told[1]
    assert told[0][0]["replicas"] == 2
    losses = told[0][0]["losses"]
    assert isinstance(losses, list)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("text", "distribute", "says"),
    [
        pytest.param(scripts.LONELY_LOOP, False, "no strategy is in force", id="loop"),
        pytest.param(scripts.LONELY_LOOP, True, "spreads Keras' fit only", id="loop, distributed"),
        pytest.param(scripts.BARE_LOOP, False, "submit it with --distribute", id="bare loop"),
        pytest.param(scripts.BARE_LOOP, True, "spreads Keras' fit only", id="bare, distributed"),
        pytest.param("print('hello')", True, "nothing to distribute", id="nothing"),
        pytest.param(scripts.LONELY_FIT, False, "or submit the script with --dist", id="fit"),
        pytest.param(scripts.CUSTOM_LOOP, True, "submit it without", id="two strategies"),
        pytest.param(
            scripts.LONELY_FIT.replace(
                "model.fit(x, y)", "\ntry: model.fit(x, y)\nexcept Exception: pass"
            ),
            False,
            "or submit the script with --dist",
            id="swallowed",
        ),
    ],
)
def test_what_every_worker_would_do_alone_is_refused(
    make: Scripts, text: str, distribute: bool, says: str
) -> None:
    group = make.job(text, distribute=distribute).start(2)
    assert group.wait() == [ExitCode.INVALID] * 2, group.logs()
    for position in (0, 1):
        (failure,) = [r for r in group.reports(position) if r["type"] == "failure"]
        assert says in failure["message"]


def test_a_worker_that_ends_early_is_noticed_by_the_others(make: Scripts) -> None:
    early = scripts.CUSTOM_LOOP.replace(
        "range(20)", "range(20 if strategy.cluster_resolver.task_id == 0 else 5)"
    )
    group = make.job(early).start(2)
    assert group.wait() == [ExitCode.PEER_LOST, ExitCode.DONE], group.logs()
