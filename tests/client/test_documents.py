"""Job documents are read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import json_format

from taas import documents
from taas.errors import InvalidRequest

GOOD = """\
apiVersion: taas.dev/v1
kind: TrainingJob
metadata:
  name: mnist
  labels: {team: vision}
spec:
  source: ./code
  task: {module: main.py}
  workers: 2
  maxRestarts: 0
  parameters: {epochs: "3"}
  checkpoints: {everySteps: 10, bestMode: BEST_MODE_MIN}
"""


def load(tmp_path: Path, text: str) -> documents.Document:
    """Write and read."""
    (tmp_path / "job.yaml").write_text(text)
    return documents.load(tmp_path / "job.yaml")


def test_good_document(tmp_path: Path) -> None:
    document = load(tmp_path, GOOD)
    assert (document.name, document.namespace, document.labels) == ("mnist", "", {"team": "vision"})
    assert document.source == tmp_path / "code"
    spec = document.spec
    assert (spec.workers, spec.task.module, spec.parameters["epochs"]) == (2, "main.py", "3")
    assert spec.HasField("max_restarts")
    assert spec.checkpoints.every_steps == 10


def test_uploaded_source_is_left_alone(tmp_path: Path) -> None:
    digest = "a" * 64
    text = GOOD.replace("./code", f'{{digest: "{digest}", sizeBytes: "12"}}')
    document = load(tmp_path, text)
    assert document.source is None
    assert (document.spec.source.digest, document.spec.source.size_bytes) == (digest, 12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("workers: 2", "wrokers: 2", "spec.wrokers: .*did you mean workers", id="typo"),
        pytest.param(
            "everySteps", "everyStep", "spec.checkpoints.everyStep: .*everySteps", id="deep"
        ),
        pytest.param("labels:", "label:", "metadata.label: .*labels", id="metadata"),
        pytest.param("spec:", "specs:", "specs: .*did you mean spec", id="top"),
        pytest.param("taas.dev/v1", "taas.dev/v2", "apiVersion: 'taas.dev/v2'", id="version"),
        pytest.param("workers: 2", "workers: two", "spec: .*workers", id="not a number"),
        pytest.param(
            "workers: 2", "workers: 2.5", "spec.workers: 2.5 is not a whole", id="fraction"
        ),
        pytest.param("workers: 2", "workers: [2]", "spec.workers: .*whole number", id="list"),
        pytest.param('"3"', "3", 'spec.parameters.epochs: 3 is not text; write "3"', id="text"),
        pytest.param("BEST_MODE_MIN", "min", "bestMode: 'min' is not one of", id="enum"),
        pytest.param("{module: main.py}", "main.py", "spec.task: .*not a mapping", id="message"),
        pytest.param("kind:", "{", "neither YAML nor JSON", id="syntax"),
        pytest.param("spec:", "---\nspec:", "holds 2 documents", id="two"),
    ],
)
def test_bad_document(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        load(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize("text", ["", "- a\n", "text", "null"])
def test_no_document(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"job\.yaml|apiVersion"):
        load(tmp_path, text)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        documents.load(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match=r"not UTF-8|neither YAML"):
        documents.load(tmp_path / "binary.yaml")


def test_a_pod_template_takes_whatever_kubernetes_has() -> None:
    template = {"spec": {"containers": [{"name": "worker", "ports": [{"containerPort": 1}]}]}}
    spec = documents.parse_spec({"pod": {"gpus": 2, "template": template}})
    assert json_format.MessageToDict(spec)["pod"] == {"gpus": 2, "template": template}
    with pytest.raises(InvalidRequest, match=r"spec\.pod\.gpu"):
        documents.parse_spec({"pod": {"gpu": 2}})
