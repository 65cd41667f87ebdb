"""Every example, submitted as its header says, in a short form with a lower target, and its model
asked. The full results are in examples/README.md."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tensorflow as tf

import taas
from protos.taas.v1.job_pb2 import TrainingJobSpec
from taas import documents
from tests.service.world import Service, Story, until
from trainer import predict

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PICTURES = EXAMPLES / "mnist_lenet5/pictures"


@dataclass(frozen=True)
class Short:
    """An example's short form: what it is run with, and the least that must come of it.

    `asked` are files, `answers` the best class or the value of the first ones.
    """

    source: str
    metric: str
    target: float
    asked: tuple[str, ...]
    answers: tuple[str | float, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)

    def good(self, value: float) -> bool:
        """Say whether the target is met; errors are to be low, accuracies high."""
        errors = self.metric in ("loss", "rmse")
        return value <= self.target if errors else value >= self.target


DIGITS = ("mnist_lenet5/pictures/two.png", "mnist_lenet5/pictures/seven.png")
SHORT = {
    "lenet5": Short(
        "mnist_lenet5", "accuracy", 0.95, DIGITS, ("2", "7"), {"epochs": "0.25", "batch": "100"}
    ),
    "fully-connected": Short(
        "mnist_fully_connected/job.yaml", "accuracy", 0.94, DIGITS, ("2", "7"), {"steps": "500"}
    ),
    "best-practice": Short(
        "mnist_best_practice/job.yaml",
        "accuracy",
        0.94,
        DIGITS,
        ("2", "7"),
        {"steps": "500", "evaluate_every": "200"},
    ),
    "iris": Short("iris", "accuracy", 0.9, ("iris/iris.csv",), ("setosa",), {"steps": "200"}),
    "parts-crossentropy": Short(
        "parts_inspection",
        "accuracy",
        0.9,
        ("parts_inspection/new_parts.csv",),
        (),
        {"steps": "400"},
    ),
    "parts-mse": Short(
        "parts_inspection",
        "accuracy",
        0.9,
        ("parts_inspection/new_parts.csv",),
        (),
        {"steps": "400", "loss": "mse"},
    ),
    "custom-loss": Short(
        "custom_loss", "loss", 0.1, ("custom_loss/unit_rows.csv",), (1.03, 1.03), {"steps": "1500"}
    ),
    "sine": Short(
        "sine",
        "rmse",
        0.03,
        ("sine/windows.csv",),
        (-0.99, -0.49, 0.63, 0.95),
        {"steps": "400", "learning_rate": "0.01"},
    ),
}


def submit(client: taas.Client, name: str, source: str, parameters: Mapping[str, str]) -> None:
    """Submit an example as `taas submit` does, with one worker and frequent checkpoints."""
    path, spec = EXAMPLES / source, TrainingJobSpec()
    if path.suffix == ".yaml":
        document = documents.load(path)
        assert document.source is not None
        path, spec = document.source, document.spec
    spec.checkpoints.every_seconds = 1
    client.submit(path, name=name, workers=1, parameters=parameters, spec=spec)


@pytest.fixture(scope="module")
def stories(service: Service) -> dict[str, Story]:
    """What was told about each example, all of them run side by side."""
    client = service.client()
    for name, short in SHORT.items():
        submit(client, name, short.source, short.parameters)
    return {name: Story(list(client.watch(name))) for name in SHORT}


@pytest.mark.parametrize("name", SHORT)
def test_an_example_reaches_its_short_target_and_its_model_answers(
    service: Service,
    stories: dict[str, Story],
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short, client = SHORT[name], service.client()
    job = client.get(name)
    assert job.status.phase == taas.Phase.Value("PHASE_SUCCEEDED"), job.status.last_failure
    assert short.good(stories[name].test[short.metric]), stories[name].test

    client.download(name, tmp_path, only=("model", "model.json"))
    files = [str(EXAMPLES / file) for file in short.asked]
    assert predict.main([str(tmp_path), *files, "--top", "1", "--output", "json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    best = [s["predictions"][0]["class"] if "predictions" in s else s["values"][0] for s in said]
    for answer, expected in zip(best, short.answers, strict=False):
        if isinstance(expected, float):
            assert answer == pytest.approx(expected, abs=0.1)
        else:
            assert answer == expected


def test_the_model_judges_new_parts_as_the_inspectors_did(
    service: Service,
    stories: dict[str, Story],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del stories
    service.client().download("parts-mse", tmp_path, only=("model", "model.json"))
    table = EXAMPLES / "parts_inspection/new_parts.csv"
    predict.main([str(tmp_path), str(table), "--output", "json"])
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    verdicts = [row.rpartition(",")[2] for row in table.read_text().splitlines()[1:]]
    right = [s["predictions"][0]["class"] == v for s, v in zip(said, verdicts, strict=True)]
    assert sum(right) >= 17
    for answer in said:
        assert {p["class"] for p in answer["predictions"]} == {"fail", "pass"}
        assert sum(p["probability"] for p in answer["predictions"]) == pytest.approx(1)


def test_the_best_practice_is_looked_at_on_its_way_and_evaluated_apart(
    service: Service, stories: dict[str, Story], tmp_path: Path
) -> None:
    looks = [
        e.record.evaluation.step
        for e in stories["best-practice"].events
        if e.record.evaluation.dataset == "validation"
    ]
    assert looks == [200, 400, 500]
    service.client().download("best-practice", tmp_path, only=("model",))
    program = EXAMPLES / "mnist_best_practice/evaluate.py"
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "model")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"test accuracy {stories['best-practice'].test['accuracy']:.4f}\n"


def test_the_contract_of_a_task_holds(service: Service, tmp_path: Path) -> None:
    """Checkpoints by time, curves by steps, restore of the newest, export at the end."""
    client = service.client()
    submit(client, "contract", "task_contract/job.yaml", {"steps": "6000"})
    first = until(lambda: client.checkpoints("contract"), "a checkpoint by time")[-1]
    assert 0 < first.step < 6000
    client.suspend("contract")
    held = taas.Phase.Value("PHASE_SUSPENDED")
    until(lambda: client.get("contract").status.phase == held, "the job to be held")
    newest = client.checkpoints("contract")[0]
    client.resume("contract")
    story = Story(list(client.watch("contract")))
    restored = [e.record.restored for e in story.events if e.record.HasField("restored")]
    assert [(r.step, r.checkpoint) for r in restored] == [(newest.step, newest.id)]
    assert story.test["accuracy"] > 0.88

    client.download("contract", tmp_path)
    assert (tmp_path / "model/saved_model.pb").is_file()
    assert curve_steps(tmp_path / "tensorboard/train") == list(range(100, 6001, 100))


def curve_steps(folder: Path) -> list[int]:
    """Return the steps of the loss curve in TensorBoard's event files."""
    steps = {
        event.step
        for file in folder.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "loss"
    }
    return sorted(steps)
