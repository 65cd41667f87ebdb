"""What fit has trained survives a kill and a stop, and the script never notices."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.training import scripts
from tests.training.scripts import Scripts, facts
from trainer.contract import Checkpointing, ExitCode

pytestmark = pytest.mark.training

OFTEN = Checkpointing(every_steps=5, every_seconds=0)


@pytest.fixture
def make(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def test_a_killed_fit_goes_on_in_the_middle_of_its_epoch(make: Scripts) -> None:
    calm = make.job(scripts.PLAIN, "12")
    group = calm.start(1)
    assert group.wait() == [0], group.logs()
    stormy = make.job(scripts.PLAIN, "12", checkpointing=OFTEN)
    killed = stormy.start(1)
    killed.until_step(30)
    killed.until(lambda rs: any("checkpoint" in r.get("record", {}) for r in rs))
    killed.kill(0)
    assert killed.wait() == [-signal.SIGKILL]
    again = stormy.start(1)
    assert again.wait() == [0], again.logs()
    (restored,) = stormy.records("restored")
    assert int(restored["restored"]["step"]) > 0
    first_step = next(r["step"] for r in again.reports(0) if r["type"] == "step")
    assert first_step == int(restored["restored"]["step"]) + 1
    (expected,), (found,) = facts(group), facts(again)
    assert found["weights"] == expected["weights"]
    assert found["epochs"] == expected["epochs"]


def test_a_stopped_fit_saves_the_very_step_and_goes_on(make: Scripts) -> None:
    job = make.job(scripts.PLAIN, "12")
    stopped = job.start(1)
    stopped.until_step(30)
    stopped.terminate(0)
    assert stopped.wait() == [ExitCode.SAVED], stopped.logs()
    last = [r["step"] for r in stopped.reports(0) if r["type"] == "step"][-1]
    again = job.start(1)
    assert again.wait() == [0], again.logs()
    (restored,) = job.records("restored")
    assert int(restored["restored"]["step"]) == last


def test_complete_fits_are_not_made_again(make: Scripts) -> None:
    calm = make.job(scripts.SEVERAL_FITS, "12").start(1)
    assert calm.wait() == [0], calm.logs()
    job = make.job(scripts.SEVERAL_FITS, "12", checkpointing=OFTEN)
    killed = job.start(1)
    killed.until_step(70)
    killed.kill(0)
    assert killed.wait() == [-signal.SIGKILL]
    again = job.start(1)
    assert again.wait() == [0], again.logs()
    (restored,) = job.records("restored")
    first_step = next(r["step"] for r in again.reports(0) if r["type"] == "step")
    assert first_step == int(restored["restored"]["step"]) + 1 > 36
    found, expected = facts(again)[-1], facts(calm)[-1]
    # The metrics of the epoch that was interrupted are those of its rest.
    changed = [
        (was, now)
        for ours, theirs in zip(list(found.pop("loss")), list(expected.pop("loss")), strict=True)
        for was, now in zip(theirs, ours, strict=True)
        if was != now
    ]
    assert len(changed) <= 1
    assert found == expected


def test_a_script_may_see_to_its_own_checkpoints(make: Scripts) -> None:
    job = make.job(scripts.PLAIN, "2", own_checkpoints=True, checkpointing=OFTEN)
    group = job.start(1)
    assert group.wait() == [0], group.logs()
    assert job.records("checkpoint") == []
    assert job.records("progress")


BACKED_UP = scripts.PLAIN.replace(
    "shuffle=False,", 'shuffle=False, callbacks=[keras.callbacks.BackupAndRestore("backup")],'
)


def test_a_scripts_own_backup_is_left_to_it(make: Scripts) -> None:
    job = make.job(BACKED_UP, "12", checkpointing=OFTEN)
    killed = job.start(1)
    killed.until_step(30)
    killed.kill(0)
    assert killed.wait() == [-signal.SIGKILL]
    assert (job.paths.work / "backup" / "latest.weights.h5").is_file()
    again = job.start(1)
    assert again.wait() == [0], again.logs()
    assert job.records("checkpoint") == []
    assert facts(again)[0]["epochs"] < 12
