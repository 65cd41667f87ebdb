"""A job begins with the weights of another one, or is sent back to an earlier step of its own."""

from __future__ import annotations

from typing import Any

import pytest

import taas
from protos.taas.v1.job_pb2 import (
    PHASE_SUCCEEDED,
    PHASE_SUSPENDED,
    CheckpointPolicy,
    InitFrom,
    TrainingJobSpec,
)
from tests.service.world import BOUND_S, TASK, Service, Story, until

SAVES = CheckpointPolicy(every_steps=100, keep_last=100)
# No checkpoint before this step is lent or gone back to. Which steps are saved is not certain: on a
# busy disk one that still waits gives way to the next.
EARLY = 200


def submit(client: taas.Client, name: str, spec: TrainingJobSpec, steps: int = 1500) -> None:
    spec.checkpoints.CopyFrom(SAVES)
    client.submit(TASK, name=name, workers=2, parameters={"steps": steps}, spec=spec)


def ended(client: taas.Client, name: str) -> Story:
    """Return all that was told of a job, which has succeeded."""
    job = client.wait(name, BOUND_S)
    assert job.status.phase == PHASE_SUCCEEDED, job.status
    story = Story(list(client.watch(name)))
    story.check()
    return story


def saved(client: taas.Client, name: str) -> list[int]:
    """Return the steps of a job's checkpoints, the first one first."""
    return sorted(c.step for c in client.checkpoints(name))


def restored(story: Story) -> list[tuple[int, Any]]:
    """Return from what each generation went on."""
    records = [e.record for e in story.events if e.record.HasField("restored")]
    return [(r.generation, (r.restored.step, r.restored.checkpoint)) for r in records]


@pytest.fixture(scope="module")
def calm(service: Service) -> Story:
    """What is told of a job that begins at its beginning and is left alone."""
    client = service.client()
    submit(client, "calm", TrainingJobSpec())
    return ended(client, "calm")


def test_a_job_begins_with_the_weights_of_another(service: Service, calm: Story) -> None:
    client = service.client()
    lent = next(step for step in saved(client, "calm") if step >= EARLY)
    origin = TrainingJobSpec(init_from=InitFrom(job="calm", step=lent))
    submit(client, "borrower", origin, steps=100)
    story = ended(client, "borrower")
    assert restored(story) == [(1, (0, f"calm/step-{lent:010d}.g000001"))]
    # It knows from the start what the other one had to learn, and counts its own steps.
    assert story.steps[1] < calm.steps[1] / 2
    assert [c.step for c in client.checkpoints("borrower")] == [100, 0]


def test_a_job_goes_back_to_a_step_and_makes_anew_what_came_after(
    service: Service, calm: Story
) -> None:
    client = service.client()
    submit(client, "job", TrainingJobSpec())
    until(lambda: sum(step >= EARLY for step in saved(client, "job")) > 1, "a later checkpoint")
    client.suspend("job")
    until(lambda: client.get("job").status.phase == PHASE_SUSPENDED, "the job to be suspended")
    before = saved(client, "job")
    back_to = next(step for step in before if step >= EARLY)
    assert before[-1] > back_to

    client.resume("job", from_step=back_to)
    story = ended(client, "job")
    assert restored(story) == [(2, (back_to, f"step-{back_to:010d}.g000001"))]
    kept = {c.step: c.generation for c in client.checkpoints("job")}
    assert max(kept) == 1500
    assert [step for step in kept if kept[step] == 1] == [
        s for s in reversed(before) if s <= back_to
    ]
    assert {kept[step] for step in kept if step > back_to} == {2}
    assert story.test == calm.test
