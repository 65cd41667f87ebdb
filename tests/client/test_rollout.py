"""Models are put where the prediction service looks, and newer ones take their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from protos.taas.v1.history_pb2 import Event, Record
from protos.taas.v1.job_pb2 import Checkpoint
from taas import rollout
from taas.client import Client
from taas.errors import InvalidRequest, NotFound
from taas.rollout import Wanted
from tests.client.double import Running

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.conftest import Answer

    Taas = Callable[..., Answer]

GRAPH = {"graph/model/saved_model.pb": b"graph", "graph/model.json": b"{}"}


def folder_of_model(folder: Path, description: Any = None) -> Path:
    """Make a job's output folder, or a plain SavedModel if there is no description."""
    saved = folder if description is None else folder / "model"
    saved.mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"model")
    if description is not None:
        (folder / "model.json").write_text(json.dumps(description))
    return folder


def test_what_a_word_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pets = folder_of_model(tmp_path / "pets", {"step": 7})
    assert rollout.wanted("mnist") == Wanted("mnist", job="mnist")
    assert rollout.wanted("team/mnist") == Wanted("mnist", job="team/mnist")
    assert rollout.wanted("digits=team/mnist") == Wanted("digits", job="team/mnist")
    assert rollout.wanted("pets") == Wanted("pets", pets)
    assert rollout.wanted("./pets/model") == Wanted("pets", pets / "model")
    assert rollout.wanted("dogs=pets") == Wanted("dogs", pets)
    odd = folder_of_model(tmp_path / "a=b")
    assert rollout.wanted("x=a=b") == Wanted("x", odd)
    with pytest.raises(InvalidRequest, match="cannot be a model's name; give another one"):
        rollout.wanted("a=b")
    with pytest.raises(InvalidRequest, match="holds no model"):
        rollout.wanted(str(tmp_path))
    with pytest.raises(InvalidRequest, match="'x' names two models"):
        rollout.names_are_unique([Wanted("x", job="a"), Wanted("y", job="a"), Wanted("x", pets)])


@pytest.mark.parametrize(
    ("description", "version"),
    [
        pytest.param({"step": 7}, "7", id="a job's"),
        pytest.param({}, "1", id="no step"),
        pytest.param({"step": 0}, "1", id="step 0"),
        pytest.param(None, "1", id="no description"),
    ],
)
def test_the_version_of_a_folder_is_its_step(
    tmp_path: Path, description: Any, version: str
) -> None:
    folder = folder_of_model(tmp_path / "pets", description)
    base = tmp_path / "base"
    base.mkdir()
    rollout.put_folder(base, rollout.wanted(str(folder)))
    (place,) = (base / "pets").iterdir()
    assert (place.name, place.resolve()) == (version, folder)


@pytest.mark.parametrize("text", ['{"step": 1e999}', "[" * 100_000, "[]"])
def test_a_description_that_cannot_be_read_says_no_step(tmp_path: Path, text: str) -> None:
    folder = folder_of_model(tmp_path / "pets", {})
    (folder / "model.json").write_text(text)
    rollout.put_folder(tmp_path, Wanted("served", folder))
    assert [place.name for place in (tmp_path / "served").iterdir()] == ["1"]


def test_a_folder_of_versions_is_served_as_it_is(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    folder_of_model(tmp_path / "pets" / "3")
    rollout.put_folder(base, rollout.wanted(str(tmp_path / "pets")))
    folder_of_model(tmp_path / "pets" / "4")
    assert {place.name for place in (base / "pets").iterdir()} == {"3", "4"}


def test_a_better_checkpoint_takes_the_place_of_the_last_and_the_model_that_of_all(
    client: Client, running: Running, job: str, tmp_path: Path
) -> None:
    model, base = Wanted("digits", job="mnist"), tmp_path / "base"
    base.mkdir()

    def put() -> set[str]:
        rollout.put_newest(client, base, model, tmp_path / "cache", lambda *_: None)
        return {place.name for place in (base / "digits").iterdir()}

    held = running.double.jobs[job]
    held.output = dict(GRAPH)
    held.job.spec.checkpoints.best_metric = "accuracy"
    with pytest.raises(NotFound, match="from its first checkpoint on"):
        put()
    for step, accuracy, served in ((100, 0.5, "100"), (200, 0.9, "200"), (300, 0.8, "200")):
        saved = Checkpoint(id=f"step-{step:010d}.g000001", step=step)
        saved.metrics["accuracy"] = accuracy
        running.double.emit(job, Event(record=Record(checkpoint=saved)))
        assert put() == {served}
    assert (base / "digits" / "200" / "checkpoint").is_dir()
    held.output = {"model/saved_model.pb": b"model", "model.json": b"{}"}
    held.job.status.progress.step = 300
    assert put() == {"300"}
    assert (base / "digits" / "300" / "model" / "saved_model.pb").read_bytes() == b"model"


def test_errors_of_the_command_are_one_line(taas: Taas, tmp_path: Path) -> None:
    for words, told in (
        (("serve", "./"), "holds no model"),
        (("serve", "x=a", "x=b"), "'x' names two models"),
        (("serve", "a b"), "'a b' cannot be a model's name"),
        (("serve", "gone"), "gone does not exist"),
    ):
        answer = taas(*words)
        assert (answer.code, answer.out) == (4 if "gone" in words else 2, "")
        assert told in answer.err
        assert answer.err.count("\n") == 1
