"""One result whatever happens: any number of workers, a second run, a kill, a stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.training import programs
from tests.training.groups import Job
from trainer.contract import Checkpointing, ExitCode

pytestmark = pytest.mark.training

# Long enough to be caught in the middle by a test that looks every few milliseconds.
LONG = {"steps": "400"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs.write(tmp_path_factory.mktemp("source"), programs.GOOD)


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    """Return a finished job with so many workers; each is run once."""
    made: dict[tuple[int, str, int], Job] = {}

    def get(workers: int, steps: str = "60", again: int = 0) -> Job:
        key = (workers, steps, again)
        if key not in made:
            job = Job(tmp_path_factory.mktemp("job"), source, parameters={"steps": steps})
            group = job.start(workers)
            assert group.wait() == [ExitCode.DONE] * workers, group.logs()
            made[key] = job
        return made[key]

    return get


def final_variables(job: Job) -> dict[str, Any]:
    """Return all variables of the newest checkpoint."""
    newest = sorted(job.paths.checkpoints.glob("step-*"))[-1]
    reader = tf.train.load_checkpoint(str(newest / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def evaluations(job: Job) -> dict[tuple[str, int], dict[str, float]]:
    return {
        (r["evaluation"]["dataset"], int(r["evaluation"]["step"])): r["evaluation"]["metrics"]
        for r in job.records("evaluation")
    }


def curve(job: Job) -> Iterator[tuple[int, float, float]]:
    """Yield (step, loss, accuracy) of every point of the TensorBoard training curve."""
    points: dict[int, dict[str, float]] = {}
    for path in sorted((job.paths.output / "tensorboard" / "train").iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor))
                points.setdefault(event.step, {})[value.tag] = number
    for step, values in sorted(points.items()):
        yield step, values["loss"], values["accuracy"]


def assert_same(one: Job, other: Job, **tolerance: float) -> None:
    np.testing.assert_allclose(list(curve(one)), list(curve(other)), **tolerance)
    ones, others = evaluations(one), evaluations(other)
    assert ones.keys() == others.keys()
    for key, metrics in ones.items():
        assert metrics == pytest.approx(others[key], abs=tolerance.get("atol", 0)), key


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_does_not_matter(finished: Callable[..., Job], workers: int) -> None:
    alone = finished(1)
    assert [step for step, _, _ in curve(alone)] == [10, 20, 30, 40, 50, 60]
    assert set(evaluations(alone)) == {
        ("validation", 20),
        ("validation", 40),
        ("validation", 60),
        ("test", 60),
    }
    assert_same(alone, finished(workers), atol=1e-4)


def test_a_second_run_gives_the_same_bits(finished: Callable[..., Job]) -> None:
    one, other = finished(2), finished(2, again=1)
    assert_same(one, other, atol=0, rtol=0)
    ones, others = final_variables(one), final_variables(other)
    assert ones.keys() == others.keys()
    for name, value in ones.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)


def test_a_killed_member_is_noticed_and_the_rest_goes_on_without_it(
    finished: Callable[..., Job], source: Path, tmp_path: Path
) -> None:
    job = Job(
        tmp_path, source, parameters=LONG, checkpointing=Checkpointing(every_steps=40, keep_last=2)
    )
    group = job.start(2)
    group.until(lambda rs: any("checkpoint" in r.get("record", ()) for r in rs))
    group.kill(1)
    assert group.wait() == [ExitCode.PEER_LOST, -9], group.logs()
    assert not any(r["type"] == "failure" for r in group.reports(0))

    assert job.run(1) == [ExitCode.DONE]
    restored = job.records("restored")
    assert [r["generation"] for r in restored] == [2]
    assert int(restored[0]["restored"]["step"]) % 40 == 0
    whole = finished(2, steps="400")
    after = {s: loss for s, loss in job.losses().items() if s in whole.losses()}
    assert 400 in after
    for step, loss in after.items():
        assert loss == pytest.approx(whole.losses()[step], abs=1e-3), step


def test_a_stop_of_one_saves_at_one_step_of_all(
    finished: Callable[..., Job], source: Path, tmp_path: Path
) -> None:
    job = Job(tmp_path, source, parameters=LONG)
    group = job.start(2)
    group.until_step(100, position=1)
    group.terminate(1)
    assert group.wait() == [ExitCode.SAVED, ExitCode.SAVED], group.logs()
    last = [max(r["step"] for r in group.reports(i) if r["type"] == "step") for i in range(2)]
    assert last[0] == last[1] < 400
    saved = job.records("checkpoint")
    assert [int(r["checkpoint"]["step"]) for r in saved] == [last[0]]

    assert job.run(2) == [ExitCode.DONE, ExitCode.DONE]
    assert int(job.records("restored")[0]["restored"]["step"]) == last[0]
    assert_records_numbered(job)
    whole = final_variables(finished(2, steps="400"))
    for name, value in final_variables(job).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)


def assert_records_numbered(job: Job) -> None:
    for path in job.paths.records.iterdir():
        generation = int(path.stem[1:])
        records = [r for r in job.records() if r["generation"] == generation]
        assert [int(r.get("index", 0)) for r in records] == list(range(len(records)))


def test_a_finished_training_is_only_exported_again(
    finished: Callable[..., Job], source: Path, tmp_path: Path
) -> None:
    job = Job(tmp_path, source, parameters={"steps": "20"})
    assert job.run(1) == [ExitCode.DONE]
    assert job.run(1) == [ExitCode.DONE]
    again = [r for r in job.records() if r["generation"] == 2]
    assert [next(iter(r.keys() - {"generation", "index", "time"})) for r in again] == [
        "restored",
        "evaluation",
        "exported",
    ]
