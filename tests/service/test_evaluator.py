"""An evaluator beside a real training: it tells what it finds, and harms nothing."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

import taas
from controller.model import EVALUATOR
from protos.taas.v1.job_pb2 import TrainingJobSpec
from tests.service.test_jobs import run
from tests.service.world import TASK, Service, Story, until

STEPS = {"steps": "3000", "validate_every": "300"}


def test_it_finds_what_the_group_would_find_and_its_death_is_not_noticed(service: Service) -> None:
    client = service.client()
    _, calm = run(client, "calm", **STEPS)
    spec = TrainingJobSpec(evaluator=True)
    spec.checkpoints.every_steps, spec.checkpoints.keep_last = 300, 1
    spec.checkpoints.best_metric = "val_accuracy"
    client.submit(TASK, name="job", workers=2, parameters=STEPS, spec=spec)
    until(lambda: _looking(service), "the evaluator to look at a checkpoint").kill()
    story = Story(list(client.watch("job")))
    story.check()

    job = client.get("job")
    assert job.status.phase == taas.Phase.Value("PHASE_SUCCEEDED")
    assert (job.status.restarts, job.status.generation) == (0, 1)
    assert story.test == calm.test

    expected, found = _validation(calm), _validation(story)
    # The last state is looked at by the group.
    assert len(found) > 1
    assert 3000 in found
    for step, metrics in found.items():
        assert metrics == pytest.approx(expected[step], abs=1e-6)
    # Told once, and the best checkpoint kept by it.
    assert len(_looks(story)) == len(found)
    kept = max(c.metrics.get("val_accuracy", 0.0) for c in client.checkpoints("job"))
    assert kept == max(metrics["accuracy"] for metrics in found.values())
    until(lambda: not list(service.processes()), "all workers to leave")


def _looks(story: Story) -> list[Any]:
    found = [e.record.evaluation for e in story.events if e.record.HasField("evaluation")]
    return [look for look in found if look.dataset == "validation"]


def _validation(story: Story) -> dict[int, dict[str, float]]:
    """Return what was told about the validation set, by step."""
    return {look.step: dict(look.metrics) for look in _looks(story)}


def _looking(service: Service) -> psutil.Process | None:
    """Return the evaluator's trainer once it has left something."""
    left = list(service.home.glob("storage/jobs/default/job/*/evaluations/**/*.json"))
    return service.trainer("job", EVALUATOR) if left else None
