"""What the evaluator finds is told once, and counts with the checkpoint's metrics."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from trainer.contract import Checkpointing
from trainer.relay import Relay, claim, claimed, is_known, leave
from trainer.retention import kept
from trainer.storage import MANIFEST, Evaluated, JobPaths, Manifest, committed


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    """A job's folders."""
    return JobPaths(tmp_path, "default", "job", "uid")


def save(paths: JobPaths, step: int, **metrics: float) -> Manifest:
    """Commit a checkpoint without files."""
    manifest = Manifest(step, 1, 0.0, (), metrics)
    folder = paths.checkpoints / manifest.id
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(manifest.to_json())
    return manifest


def found(step: int, accuracy: float) -> Evaluated:
    return Evaluated(step, 1, 30, {"accuracy": accuracy})


def test_each_is_told_once_by_step(paths: JobPaths) -> None:
    told: list[Evaluated] = []
    relay = Relay(paths, told.append)
    relay.look()
    for step in (20, 10):
        save(paths, step)
        leave(paths, found(step, 0.5))
    relay.look()
    relay.look()
    Relay(paths, told.append).look()
    assert [one.step for one in told] == [10, 20]
    assert told[0] == found(10, 0.5)
    assert is_known(paths, found(10, 0.5).id)
    assert not is_known(paths, found(30, 0.5).id)


def test_what_cannot_be_told_now_is_told_later(paths: JobPaths) -> None:
    def fail(_: Evaluated) -> None:
        raise OSError("full")

    leave(paths, found(10, 0.5))
    Relay(paths, fail).look()
    told: list[Evaluated] = []
    Relay(paths, told.append).look()
    assert len(told) == 1


def test_rubbish_is_removed(paths: JobPaths) -> None:
    leave(paths, found(10, 0.5))
    (paths.evaluations / "new" / "step-0000000005.g000001.json").write_text("[]")
    told: list[Evaluated] = []
    Relay(paths, told.append).look()
    assert [one.step for one in told] == [10]
    assert not list((paths.evaluations / "new").iterdir())


def test_it_counts_with_the_metrics_of_its_checkpoint(paths: JobPaths) -> None:
    for step, accuracy in ((10, 0.9), (20, 0.5), (30, 0.6)):
        save(paths, step, loss=1.0)
        leave(paths, found(step, accuracy))
    before = committed(paths)
    assert before[0].metrics == {"loss": 1.0, "val_accuracy": 0.6}
    Relay(paths, lambda _: None).look()
    assert committed(paths) == before
    policy = Checkpointing(keep_last=1, best_metric="val_accuracy")
    assert [manifest.step for manifest in kept(committed(paths), policy)] == [30, 10]


def test_a_checkpoint_that_is_looked_at_is_claimed(paths: JobPaths) -> None:
    assert claimed(paths) == ""
    first = save(paths, 10)
    assert claim(paths, first.id)
    assert claimed(paths) == first.id
    assert not claim(paths, "step-0000000099.g000001")


def test_what_is_known_of_checkpoints_that_are_gone_is_forgotten(paths: JobPaths) -> None:
    relay = Relay(paths, lambda _: None)
    for step in (10, 20):
        shutil.rmtree(paths.checkpoints, ignore_errors=True)
        leave(paths, found(step, 0.5))
        newest = save(paths, step)
        relay.look()
    assert [place.stem for place in paths.evaluations.glob("*.json")] == [newest.id]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"step": -1, "generation": 1, "examples": 1, "metrics": {}}',
        '{"step": 1, "generation": 1, "examples": 1, "metrics": {"a": "b"}}',
        '{"step": 1e999, "generation": 1, "examples": 1, "metrics": {}}',
        "[" * 100_000,
    ],
)
def test_what_is_no_evaluation_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an evaluation"):
        Evaluated.from_json(text)
