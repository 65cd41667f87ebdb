"""An evaluator looks on at a training of the cluster, and TensorBoard shows its curves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from tests.cluster.commands import wait_until
from tests.cluster.layout import PROJECT
from tests.cluster.team import BOUND_S, Team, phase_is
from tests.service.asking import curl

IRIS = PROJECT / "examples" / "iris"
ENDLESS = 1_000_000_000


def test_an_evaluator_looks_on_and_is_not_missed(team: Team) -> None:
    checkpoints = {"everySteps": 50, "bestMetric": "val_accuracy"}
    manifest = team.manifest("job", steps=ENDLESS, evaluator=True, checkpoints=checkpoints)
    manifest["spec"]["parameters"]["validate_every"] = "50"
    team.apply(manifest)
    found = evaluations(team)
    next(found)
    old = team.cluster.get("pod", "job-evaluator", team.namespace)["metadata"]["uid"]
    team.kubectl("delete", "pod", "job-evaluator", "--force", "--grace-period=0")
    team.until_steps("job", team.client.get("job").status.progress.step)
    # A new one comes, and tells of checkpoints that the first has not seen.
    wait_until("another evaluator", lambda: _uid(team, "job-evaluator") not in ("", old))
    reached = team.client.get("job").status.progress.step
    assert any(step > reached for step in found)
    job = team.client.get("job")
    assert (job.status.restarts, job.status.generation) == (0, 1)
    assert any("val_accuracy" in c.metrics for c in team.client.checkpoints("job"))
    team.client.cancel("job")
    team.until_gone("pods", "-l", "taas.dev/job=job")


def _uid(team: Team, pod: str) -> str:
    return team.kubectl("get", "pod", pod, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")


def evaluations(team: Team) -> Iterator[int]:
    """Follow a job; the steps whose checkpoints were looked at, as they are told."""
    for event in team.client.watch("job", reconnect_for_s=BOUND_S):
        if event.record.HasField("evaluation"):
            yield event.record.evaluation.step


def test_tensorboard_shows_a_job_of_the_cluster(team: Team) -> None:
    team.client.submit(IRIS, name="curves", workers=1, parameters={"steps": "200"})
    team.until("curves", "to succeed", phase_is("SUCCEEDED"))
    words = ["tensorboard", "-n", team.namespace, "curves", "--output", "json"]
    environment = {**os.environ, "TAAS_TARGET": team.service.target}
    command = [sys.executable, "-m", "taas", *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            runs = f"{json.loads(process.stdout.readline())['url']}data/runs"
            wanted = {"curves/train", "curves/test", "curves/model"}
            wait_until("the runs", lambda: wanted <= set(curl(runs)))
        finally:
            process.terminate()
