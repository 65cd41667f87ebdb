"""From what a generation begins, if not from its job's newest checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.checkpoint_job import Job
from trainer.contract import Assignment
from trainer.origins import OriginError, folder_of, lent, step_to_return_to
from trainer.storage import checkpoint_id


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def assignment(job: Job, name: str = "borrower", **changes: int | str) -> Assignment:
    return Assignment(
        namespace="default",
        job=name,
        job_uid="uid",
        generation=4,
        module="task.py",
        source_digest="",
        storage_root=str(job.paths.root),
        **changes,  # type: ignore[arg-type]
    )


def test_nobody_lends_who_is_not_asked(job: Job) -> None:
    assert lent(assignment(job)) is None


@pytest.mark.parametrize(("step", "found"), [(0, 30), (20, 20)])
def test_another_job_lends_its_newest_checkpoint_or_the_one_of_a_step(
    job: Job, step: int, found: int
) -> None:
    job.save(job.generation(1), 10, 20, 30)
    asked = assignment(job, init_job="job", init_step=step)
    manifest = lent(asked)
    assert manifest is not None
    assert manifest.step == found
    assert folder_of(asked, found, 1) == job.folder(found)


def test_a_damaged_newest_one_is_passed_over(job: Job) -> None:
    job.save(job.generation(1), 10, 20)
    next(job.folder(20).glob("*.data-*")).write_bytes(b"")
    manifest = lent(assignment(job, init_job="job"))
    assert manifest is not None
    assert manifest.step == 10


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"init_job": "nobody"}, "job nobody has no checkpoint.*has none", id="name"),
        pytest.param(
            {"init_job": "job", "init_step": 15}, "of step 15.*there are 10, 20$", id="step"
        ),
    ],
)
def test_what_is_not_there_is_named(job: Job, changes: dict[str, int | str], says: str) -> None:
    job.save(job.generation(1), 10, 20)
    with pytest.raises(OriginError, match=says):
        lent(assignment(job, **changes))


def test_a_checkpoint_that_was_removed_meanwhile_is_named(job: Job) -> None:
    job.save(job.generation(1), 10)
    with pytest.raises(OriginError, match=f"job/{checkpoint_id(20, 1)} was removed"):
        folder_of(assignment(job, init_job="job"), 20, 1)


def test_a_job_is_sent_back_until_a_generation_has_begun_there(job: Job) -> None:
    job.save(job.generation(1), 10, 20)
    job.generation(3).fence(20)
    asked = assignment(job, name="job", rewind_step=10, rewind_after=3)
    assert step_to_return_to(asked) == 10
    # A generation that died before its fence has changed nothing.
    assert step_to_return_to(asked) == 10
    job.generation(4).fence(10)
    assert step_to_return_to(asked) is None
    assert step_to_return_to(assignment(job, name="job")) is None
