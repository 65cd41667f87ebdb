"""What the chief tells of the checkpoints that a generation could begin from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.checkpoint_job import Job
from trainer.chief import Chief
from trainer.progress import Curves, Records, Reports
from trainer.storage import checkpoint_id


def told(job: Job, folder: Path) -> dict[str, Any]:
    """Begin a generation, and return the one record that was made of it."""
    reports, file = Reports(None), job.paths.record_file(2)
    records = Records(file, generation=2, reports=reports)
    curves = Curves(folder / "curves", on_failed=pytest.fail)
    chief = Chief(records, curves, curves, reports)
    checkpoints = job.generation(2)
    chosen = checkpoints.choose()
    chief.began(chosen.step if chosen else 0, chosen, checkpoints.skipped)
    chief.curves.close()
    records.close()
    (line,) = file.read_text().splitlines() or ["{}"]
    record: dict[str, Any] = json.loads(line)
    return record


def damage(job: Job, step: int) -> None:
    (job.folder(step) / "variables.index").unlink()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job with checkpoints of steps 10 and 20."""
    job = Job(tmp_path / "storage")
    job.save(job.generation(1), 10, 20)
    return job


def test_a_generation_that_begins_anew_says_what_is_wrong_with_each_checkpoint(
    job: Job, tmp_path: Path
) -> None:
    damage(job, 10)
    damage(job, 20)
    notice = told(job, tmp_path)["notice"]
    assert notice["reason"] == "CheckpointsDamaged"
    newer, older = notice["message"].split("; ")
    start = "no checkpoint is sound, starting anew: "
    assert newer == f"{start}{checkpoint_id(20, 1)}: variables.index is missing"
    assert older == f"{checkpoint_id(10, 1)}: variables.index is missing"


def test_a_generation_that_goes_on_says_which_checkpoints_it_passed_over(
    job: Job, tmp_path: Path
) -> None:
    damage(job, 20)
    restored = told(job, tmp_path)["restored"]
    assert (restored["step"], restored["checkpoint"]) == ("10", checkpoint_id(10, 1))
    assert restored["skipped"] == [f"{checkpoint_id(20, 1)}: variables.index is missing"]


def test_a_first_generation_says_nothing(tmp_path: Path) -> None:
    assert told(Job(tmp_path / "storage"), tmp_path) == {}
