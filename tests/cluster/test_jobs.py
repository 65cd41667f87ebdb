"""The first job of a user, by either door: trained across nodes, told of, logged, downloaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from protos.taas.v1.job_pb2 import PHASE_SUCCEEDED
from tests.cluster.layout import PROJECT
from tests.cluster.team import MNIST, Manifest, Team, table, watching

# Half of the digits once, in seconds. This ends well above what is asked for with any seed; one
# whose workers drifted apart, or whose digits got other labels, ends far below.
EPOCHS, STEPS, ACCURACY = "0.5", 110, 0.95
EXAMPLES = PROJECT / "examples" / "jobs"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def nodes(team: Team, job: str) -> set[str]:
    """The nodes that the workers of a running job are on."""
    return {pod["spec"]["nodeName"] for pod in team.pods(job)}


def check_end(team: Team, name: str, accuracy: float) -> None:
    """The story, the status and the files of a job that two workers have brought to its end."""
    story = watching(team, name).join()
    job = team.client.get(name)
    assert job.status.phase == PHASE_SUCCEEDED, job.status
    assert (job.status.generation, job.status.restarts) == (1, 0)
    assert story.test["accuracy"] >= accuracy
    # The record of the last step is read from the claim, the status came from the live stream.
    assert max(story.steps) == job.status.progress.step == job.status.progress.total_steps
    team.until_gone("pods", "-l", f"taas.dev/job={name}")


def test_mnist_by_grpc(team: Team, tmp_path: Path) -> None:
    with table(team) as lines:
        team.taas(
            "submit", str(MNIST), "--name", "mnist", "--workers", "2", "-p", f"epochs={EPOCHS}"
        )
        team.wait("mnist", "condition=Running")
        assert len(nodes(team, "mnist")) == 2
        check_end(team, "mnist", ACCURACY)
        team.until("mnist", "kubectl's table to show the end", lambda _: _has_ended(lines))
    phases = [
        word.lower() for word in re.findall(r"^mnist +(?:PHASE_)?([A-Za-z]+)", "".join(lines), re.M)
    ]
    assert [p for p in ("pending", "starting", "running", "succeeded") if p in phases] == list(
        dict.fromkeys(phases)
    )
    steps = [int(n) for n in re.findall(rf" (\d+) +{STEPS} +\d+[.]", "".join(lines))]
    assert steps == sorted(steps)
    assert len(set(steps)) > 2

    for worker in ("0", "1"):
        assert team.taas("logs", "mnist", "--worker", worker)
    team.taas("download", "mnist", "-o", str(tmp_path))
    said = team.taas("predict", str(tmp_path / "model"), str(MNIST / "pictures" / "seven.png"))
    assert re.search(r"\b7\b", said), said


def _has_ended(lines: list[str]) -> bool:
    return "succeeded" in "".join(lines).lower()


def test_mnist_by_kubectl(team: Team, tmp_path: Path) -> None:
    (job,) = documents("mnist.yaml")
    job["spec"]["pod"]["image"] = team.cluster.images.mnist
    job["spec"]["parameters"]["epochs"] = EPOCHS
    team.apply(job)
    team.wait("mnist", "condition=Running")
    assert len(nodes(team, "mnist")) == 2
    check_end(team, "mnist", ACCURACY)
    team.wait("mnist", "condition=Complete")
    assert team.taas("logs", "mnist")
    files = team.client.download("mnist", tmp_path)
    assert tmp_path / "model" / "saved_model.pb" in files
    # The best checkpoint was asked for.
    assert team.client.checkpoints("mnist")[0].metrics["accuracy"] > 0


def test_program_in_a_config_map(team: Team) -> None:
    manifests: list[Manifest] = documents("spirals.yaml")
    for manifest in manifests:
        team.apply(manifest)
    check_end(team, "spirals", 0.9)
    reasons = team.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}").split()
    assert {"Starting", "Running", "Succeeded"} <= set(reasons)
    assert "Succeeded" in team.kubectl("describe", "tj", "spirals")
