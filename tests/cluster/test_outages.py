"""A training notices nothing of what becomes of the controllers and of the API server."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from protos.taas.v1.job_pb2 import PHASE_RUNNING
from tests.cluster.commands import wait_until
from tests.cluster.installed import DEPLOYMENT, NAMESPACE, Service
from tests.cluster.team import BOUND_S, Team, phase_is, watching

ENDLESS = 1_000_000
OUTAGE = timedelta(seconds=60)


def delete_the_leader(service: Service) -> None:
    service.kubectl("delete", "pod", service.leader()[0])


def kill_the_leader(service: Service) -> None:
    service.cluster.kill_pod(NAMESPACE, service.leader()[0])


def roll_out(service: Service) -> None:
    service.kubectl("rollout", "restart", DEPLOYMENT)


def pods(team: Team) -> list[tuple[str, int]]:
    """Each worker's pod, and how often its container was started again."""
    return [
        (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in team.pods("job")
    ]


def recorded(team: Team) -> list[dict[str, Any]]:
    """What the chief has written of the training, as it lies on the claim."""
    (path,) = (
        path
        for path in team.cluster.files(team.namespace, "taas-storage", "jobs")
        if path.endswith("/records/g000001.jsonl")
    )
    text = team.cluster.on_claim(team.namespace, "taas-storage", "cat", path)
    # The last line may be half written.
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize("happens", [delete_the_leader, kill_the_leader, roll_out])
def test_training_goes_on_without_its_controller(
    team: Team, happens: Callable[[Service], None]
) -> None:
    service = team.service
    service.rolled_out()
    team.apply(team.manifest("job", steps=ENDLESS))
    watch = watching(team, "job")
    team.until_steps("job")
    before, (_, led) = pods(team), service.leader()

    happens(service)
    service.leader(after=led)
    service.rolled_out()
    reached = team.client.get("job").status.progress.step
    job = team.until("job", "steps after it", lambda j: j.status.progress.step > reached)

    assert (job.status.phase, job.status.generation, job.status.restarts) == (PHASE_RUNNING, 1, 0)
    assert pods(team) == before
    team.client.cancel("job")
    story = watch.join()
    assert watch.lost
    # What the watcher was told is what the chief has written: all of it, and each once.
    told = [event.record.index for event in story.events if event.HasField("record")]
    assert told == [int(record.get("index", 0)) for record in recorded(team)]


def test_training_goes_on_without_the_api_server(team: Team) -> None:
    team.apply(team.manifest("job", steps=ENDLESS))
    watch = watching(team, "job")
    team.until_steps("job")
    before = pods(team)

    with team.cluster.api_server_down():
        end = datetime.now(UTC) + OUTAGE

        def trained_through() -> bool:
            return datetime.fromisoformat(recorded(team)[-1]["time"]) > end

        wait_until("records of more than a minute without it", trained_through)
        reached = int(recorded(team)[-1]["progress"]["step"])

    def right() -> bool:
        return int(team.job("job")["status"]["progress"]["step"]) >= reached

    wait_until("the status to be right", right, timeout_s=BOUND_S)
    job = team.client.get("job")
    assert (job.status.phase, job.status.generation, job.status.restarts) == (PHASE_RUNNING, 1, 0)
    assert pods(team) == before
    team.client.cancel("job")
    team.until("job", "to be cancelled", phase_is("CANCELLED"))
    story = watch.join()
    told = [event.record.index for event in story.events if event.HasField("record")]
    assert told == [int(record.get("index", 0)) for record in recorded(team)]
