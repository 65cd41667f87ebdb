"""A training begins with another one's weights, or again at an earlier step of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.training import programs
from tests.training.groups import Job
from trainer.contract import ExitCode
from trainer.storage import checkpoint_id

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job with a checkpoint of step 20, and of step 60 where its second generation came."""
    source = programs.write(tmp_path_factory.mktemp("source"), programs.GOOD)
    job = Job(tmp_path_factory.mktemp("lender"), source)
    for steps in ("20", "60"):
        job.parameters = {"steps": steps}
        assert job.run(1) == [ExitCode.DONE]
    return job


def values(job: Job, step: int, generation: int) -> dict[str, Any]:
    """Return what a checkpoint holds."""
    folder = job.paths.checkpoints / checkpoint_id(step, generation)
    reader = tf.train.load_checkpoint(str(folder / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def borrower(lender: Job, folder: Path, step: int) -> Job:
    more = {"init_job": lender.name, "init_step": step}
    return Job(
        folder,
        lender.source,
        name=f"borrower-{step}",
        storage=lender.paths.root,
        more=more,
    )


def test_the_weights_are_those_of_the_lender_and_nothing_else_is(
    lender: Job, tmp_path: Path
) -> None:
    job = borrower(lender, tmp_path, step=20)
    assert job.run(1) == [ExitCode.DONE]
    began, lent = values(job, 0, 1), values(lender, 20, 1)
    weights = [name for name in lent if name.startswith("model/")]
    for name in weights:
        np.testing.assert_array_equal(began[name], lent[name])
    assert began["optimizer/0000/iteration"] == 0
    # The averages begin at the weights.
    trained = [began[name] for name in sorted(weights) if "seed" not in name]
    for number, weight in enumerate(trained):
        np.testing.assert_array_equal(began[f"average/{number:04d}"], weight)
    (restored,) = job.records("restored")
    assert restored["restored"]["checkpoint"] == f"test/{checkpoint_id(20, 1)}"
    assert values(job, 60, 1)["optimizer/0000/iteration"] == 60


def test_a_step_that_nobody_lends_is_an_error_that_is_not_tried_again(
    lender: Job, tmp_path: Path
) -> None:
    job = borrower(lender, tmp_path, step=41)
    group = job.start(1)
    assert group.wait() == [ExitCode.INVALID]
    (failure,) = [r for r in group.reports(0) if r["type"] == "failure"]
    assert failure["message"] == (
        "initFrom: job test has no checkpoint of step 41 on this claim; there are 20, 60"
    )


def test_back_to_a_step_of_its_own_and_on_to_the_same_end(lender: Job) -> None:
    first = values(lender, 60, 2)
    lender.more = {"rewind_step": 20, "rewind_after": lender.generation}
    assert lender.run(1) == [ExitCode.DONE]
    assert lender.records("restored")[-1]["restored"]["step"] == "20"
    second = values(lender, 60, 3)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)
