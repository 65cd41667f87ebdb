"""Checkpoints: committed whole or not at all, verified, kept as asked, and fenced."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tensorflow as tf

from tests.unit.checkpoint_job import Job
from trainer import snapshot
from trainer.checkpoints import CheckpointError, Chosen, StorageError
from trainer.contract import Checkpointing
from trainer.origins import OriginError
from trainer.retention import kept
from trainer.storage import Manifest, checkpoint_id, committed, read_fences


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


# The way of a checkpoint.


def test_what_is_saved_is_chosen_and_loaded(job: Job) -> None:
    assert job.generation(1).choose() is None
    first = job.generation(1)
    first.fence(0)
    job.save(first, 10, 20, metrics={"loss": 0.5})
    assert [m.step for m in job.saved] == [10, 20]
    chosen = job.generation(2).choose()
    assert chosen == Chosen(20, 1, checkpoint_id(20, 1))
    assert job.loaded(chosen) == 20
    assert committed(job.paths)[0].metrics == {"loss": 0.5}
    assert job.failed == []


def test_tensorflow_reads_the_files_without_us(job: Job) -> None:
    job.save(job.generation(1), 10)
    reader = tf.train.load_checkpoint(str(job.folder(10) / "variables"))
    assert reader.get_tensor("step") == 10
    assert sorted(p.name for p in job.folder(10).iterdir()) == [
        "manifest.json",
        "variables.data-00000-of-00001",
        "variables.index",
    ]


def test_a_later_update_does_not_reach_a_snapshot(job: Job) -> None:
    strategy = tf.distribute.get_strategy()
    adam = {name: tf.Variable(tf.ones([1000])) for name in ("var", "m", "v")}

    @tf.function
    def update() -> None:
        for variable in adam.values():
            variable.assign_add(tf.ones_like(variable))
            variable.scatter_nd_add([[0]], [5.0])
        tf.raw_ops.ResourceApplyAdam(
            **{name: variable.handle for name, variable in adam.items()},
            **dict.fromkeys(("beta1_power", "beta2_power", "lr", "beta1", "beta2"), 0.9),
            epsilon=1e-8,
            grad=tf.ones([1000]),
        )

    strategy.run(update)
    values = snapshot.take(adam)
    before = {name: value.numpy().copy() for name, value in values.items()}
    for _ in range(3):
        strategy.run(update)
    for name, value in values.items():
        assert (value.numpy() == before[name]).all()
        assert not (adam[name].numpy() == before[name]).any()


# Damage.


def truncate(folder: Path) -> None:
    path = folder / "variables.data-00000-of-00001"
    os.truncate(path, path.stat().st_size - 1)


def flip(folder: Path) -> None:
    path = folder / "variables.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


def unlink(folder: Path) -> None:
    (folder / "variables.index").unlink()


def manifest_rubbish(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def manifest_is_a_pipe(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")


def manifest_of_another(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step": 7}))


def manifest_lists_nothing(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "files": []}))


DAMAGES = {
    truncate: "has 67 bytes instead of",
    flip: "checksum of variables.data-00000-of-00001 does not match",
    unlink: "variables.index is missing",
    manifest_rubbish: "manifest.json cannot be read",
    manifest_is_a_pipe: "manifest.json cannot be read",
    manifest_of_another: "manifest.json names step-0000000007",
    manifest_lists_nothing: "its manifest lists no variables.index",
}


@pytest.mark.parametrize("harm", DAMAGES, ids=lambda harm: harm.__name__)
def test_a_damaged_checkpoint_is_passed_over_and_named(job: Job, harm) -> None:
    job.save(job.generation(1), 10, 20, 30)
    harm(job.folder(30))
    chooser = job.generation(2)
    chosen = chooser.choose()
    assert job.loaded(chosen) == 20
    (line,) = chosen.skipped
    assert line.startswith(f"{checkpoint_id(30, 1)}: ")
    assert DAMAGES[harm].replace("67", line.split(" bytes")[0].split()[-1]) in line
    for step in (10, 20):
        harm(job.folder(step))
    assert chooser.choose() is None
    assert len(chooser.skipped) == 3


def test_an_interrupted_save_is_no_checkpoint_and_is_removed_at_the_next_start(job: Job) -> None:
    job.save(job.generation(1), 10, 20)
    (job.folder(20) / "manifest.json").rename(job.folder(20) / "manifest.json.tmp")
    (job.paths.checkpoints / (".removed-" + checkpoint_id(5, 1))).mkdir()
    second = job.generation(2)
    chosen = second.choose()
    assert (chosen.step, chosen.skipped) == (10, ())
    second.fence(10)
    assert [path.name for path in job.paths.checkpoints.iterdir()] == [checkpoint_id(10, 1)]


def test_only_the_folders_of_older_generations_are_removed(job: Job) -> None:
    for generation in (1, 2, 3):
        job.folder(50, generation).mkdir(parents=True)
    (job.paths.checkpoints / "step-notes").mkdir()
    job.generation(2).fence(0)
    assert sorted(path.name for path in job.paths.checkpoints.iterdir()) == [
        checkpoint_id(50, 2),
        checkpoint_id(50, 3),
        "step-notes",
    ]


# What does not fit the program.


def test_variables_that_do_not_fit_are_named_and_nothing_is_assigned(job: Job) -> None:
    job.save(job.generation(1), 10)
    job.assign(-1)
    variables = {
        "step": job.variables["step"],
        "layer/weights": tf.Variable(tf.zeros([4, 3])),
        "layer/bias": tf.Variable(tf.zeros([4])),
    }
    with pytest.raises(CheckpointError) as caught:
        job.generation(2).load(10, 1, variables)
    assert f"{job.folder(10)}: does not fit the program" in str(caught.value)
    assert "it lacks layer/bias" in str(caught.value)
    assert "layer/weights has shape [3, 4] in it, [4, 3] now" in str(caught.value)
    assert int(job.variables["step"]) == -1
    with pytest.raises(CheckpointError, match="the program has no layer/weights"):
        job.generation(2).load(10, 1, {"step": job.variables["step"]})
    wide = {**job.variables, "step": tf.Variable(0, dtype=tf.int32)}
    with pytest.raises(CheckpointError, match=r"step has type <dtype: 'int64'> in it, .*int32"):
        job.generation(2).load(10, 1, wide)


@pytest.mark.parametrize("harm", [truncate, flip, unlink], ids=lambda harm: harm.__name__)
def test_loading_finds_damage_by_itself(job: Job, harm) -> None:
    job.save(job.generation(1), 10)
    harm(job.folder(10))
    with pytest.raises(CheckpointError, match=checkpoint_id(10, 1)):
        job.generation(2).load(10, 1, job.variables)


# Fences.


def test_a_superseded_generation_commits_and_removes_nothing(job: Job) -> None:
    old = job.generation(1, keep_last=1)
    old.fence(0)
    job.save(old, 10)
    new = job.generation(2, keep_last=1)
    new.fence(new.choose().step)
    with pytest.raises(CheckpointError, match="generation 2 has begun"):
        job.save(old, 20)
    assert job.failed == []
    assert not job.folder(20).exists()
    assert job.steps() == [10]
    with pytest.raises(CheckpointError, match="generation 2 has begun"):
        old.fence(10)
    job.save(new, 15)
    assert job.steps() == [15]


def test_a_commit_that_came_too_late_does_not_count_and_goes_in_time(job: Job) -> None:
    old = job.generation(1)
    job.save(old, 10)
    elsewhere = Job(job.paths.root / "elsewhere")
    elsewhere.save(elsewhere.generation(1), 40)
    new = job.generation(2)
    new.fence(10)
    # As if the old chief had renamed its manifest after the fence was written.
    elsewhere.folder(40).rename(job.folder(40))
    assert job.steps() == [10]
    assert new.choose().step == 10
    job.save(new, 20)
    assert job.folder(40).exists()
    job.save(new, 50)
    assert not job.folder(40).exists()
    assert job.steps() == [50, 20, 10]


def test_a_fence_is_refused_when_its_checkpoint_was_removed_meanwhile(job: Job) -> None:
    job.save(job.generation(1), 10)
    new = job.generation(2)
    chosen = new.choose()
    # As if the old chief, still alive, had just made it superfluous.
    job.folder(10).rename(job.folder(10).with_name("gone"))
    with pytest.raises(CheckpointError, match=r"step 10 was removed.*choose again"):
        new.fence(chosen.step)
    assert read_fences(job.paths) == ()


def test_a_checkpoint_is_given_back_when_a_new_generation_began_meanwhile(job: Job) -> None:
    old = job.generation(1)
    job.save(old, 10)
    job.generation(2).fence(10)
    old._remove(job.folder(10))
    assert job.steps() == [10]


def test_a_fence_needs_storage_that_can_be_written(job: Job) -> None:
    job.paths.root.joinpath("jobs").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"Not a directory|File exists"):
        job.generation(1).fence(0)


# Going back.


def test_the_checkpoint_of_a_step_is_chosen_and_what_came_after_is_void(job: Job) -> None:
    job.save(job.generation(1), 10, 20, 30)
    again = job.generation(2)
    chosen = again.choose(at_step=20)
    assert job.loaded(chosen) == 20
    again.fence(20)
    assert job.steps() == [20, 10]
    assert job.generation(3).choose().step == 20


def test_a_step_without_a_checkpoint_is_an_error_that_names_those_there_are(job: Job) -> None:
    job.save(job.generation(1), 10, 20)
    with pytest.raises(OriginError, match=r"no sound checkpoint of step 15 \(there are 10, 20\)"):
        job.generation(2).choose(at_step=15)


def test_a_damaged_checkpoint_of_the_step_is_not_replaced_by_another(job: Job) -> None:
    job.save(job.generation(1), 10, 20)
    next(job.folder(20).glob("*.data-*")).write_bytes(b"")
    with pytest.raises(OriginError, match=r"no sound checkpoint of step 20 \(step-0000000020"):
        job.generation(2).choose(at_step=20)


# What is kept.


def test_the_newest_and_the_best_are_kept(job: Job) -> None:
    checkpoints = job.generation(1, keep_last=2, best_metric="accuracy")
    for step, accuracy in [(10, 0.5), (20, 0.9), (30, 0.7), (40, 0.8), (50, 0.6)]:
        job.save(checkpoints, step, metrics={"accuracy": accuracy})
    assert job.steps() == [50, 40, 20]
    second = job.generation(2, keep_last=1, best_metric="accuracy")
    second.fence(50)
    job.save(second, 60, metrics={"accuracy": 0.9})
    assert job.steps() == [60]
    assert [path.name for path in job.paths.checkpoints.iterdir()] == [checkpoint_id(60, 2)]


def manifest(step: int, **metrics: float) -> Manifest:
    return Manifest(step, 1, 0.0, (), dict(metrics))


NAN = float("nan")


@pytest.mark.parametrize(
    ("policy", "values", "expected"),
    [
        ({"keep_last": 1}, {1: 5, 2: 3, 3: 4}, [3]),
        ({"keep_last": 5}, {1: 5, 2: 3, 3: 4}, [3, 2, 1]),
        ({"keep_last": 0}, {1: 5, 2: 3, 3: 4}, [3]),
        ({"keep_last": 1, "best_metric": "m"}, {1: 5, 2: 3, 3: 4}, [3, 1]),
        ({"keep_last": 1, "best_metric": "m", "best_mode": "min"}, {1: 5, 2: 3, 3: 4}, [3, 2]),
        ({"keep_last": 1, "best_metric": "m"}, {1: 5, 2: 5, 3: 4}, [3, 2]),
        ({"keep_last": 1, "best_metric": "m"}, {1: NAN, 2: 5, 3: NAN}, [3, 2]),
        ({"keep_last": 1, "best_metric": "m"}, {1: NAN, 2: float("inf"), 3: NAN}, [3]),
        ({"keep_last": 1, "best_metric": "other"}, {1: 5, 2: 3, 3: 4}, [3]),
        # Once the first behind a multiple is kept, it stays the first.
        ({"keep_last": 1, "keep_every_steps": 4}, dict.fromkeys(range(1, 11), 0), [10, 8, 4]),
        ({"keep_last": 1, "keep_every_steps": 4}, {4: 0, 8: 0, 10: 0, 11: 0}, [11, 8, 4]),
        ({"keep_last": 1, "keep_every_steps": 4}, {3: 0, 6: 0, 7: 0}, [7, 6]),
        ({"keep_last": 2, "keep_every_steps": 1}, {1: 0, 2: 0, 3: 0}, [3, 2, 1]),
    ],
)
def test_retention(policy: dict, values: dict[int, float], expected: list[int]) -> None:
    newest_first = [manifest(step, m=value) for step, value in sorted(values.items())[::-1]]
    assert [m.step for m in kept(newest_first, Checkpointing(**policy))] == expected


# When it is due.


def test_due_by_steps_when_a_multiple_was_reached_since_the_last_save(job: Job) -> None:
    checkpoints = job.generation(1, every_steps=100, every_seconds=0)
    answers = [step for step in range(0, 350, 30) if checkpoints.due(step, 0.0)]
    assert answers[0] == 120
    job.save(checkpoints, 120)
    assert next(s for s in range(120, 350, 30) if checkpoints.due(s, 1e6)) == 210
    restored = job.generation(2, every_steps=100, every_seconds=0)
    restored.fence(120)
    assert not restored.due(150, 0.0)
    assert restored.due(200, 0.0)


@pytest.mark.parametrize(
    ("policy", "every"), [({"every_seconds": 5}, 5), ({"every_seconds": 0}, 60)]
)
def test_due_by_time_since_the_last_save(job: Job, policy: dict, every: int) -> None:
    checkpoints = job.generation(1, **policy)
    assert not checkpoints.due(1, 1000.0)
    assert not checkpoints.due(2, 1000.0 + every - 0.1)
    assert checkpoints.due(3, 1000.0 + every)
    job.save(checkpoints, 3)
    assert not checkpoints.due(4, 1000.0 + 2 * every - 0.1)
    assert checkpoints.due(5, 1000.0 + 2 * every)
