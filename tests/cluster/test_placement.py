"""Where workers go, what is said of those that find no place, and which deadlines end a job."""

from __future__ import annotations

import pytest

from protos.taas.v1.job_pb2 import PHASE_FAILED, PHASE_PENDING
from tests.cluster.layout import GPU
from tests.cluster.team import Team, phase_is

ENDLESS = 1_000_000
NOWHERE = {"nodeSelector": {"taas.dev/no-such-node": "true"}}
NOTHING = {"image": "localhost/taas/nothing:1"}


@pytest.mark.usefixtures("gpus")
def test_gpus_spread_workers_over_nodes(team: Team) -> None:
    team.apply(team.manifest("job", steps=ENDLESS, pod={"gpus": 1}))
    team.until_steps("job")
    pods = team.pods("job")
    assert {pod["spec"]["nodeName"] for pod in pods} == set(team.cluster.nodes)
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"][GPU] == "1"


@pytest.mark.usefixtures("gpus")
def test_a_worker_without_a_gpu_is_named_until_one_is_added(team: Team) -> None:
    team.apply(team.manifest("job", steps=ENDLESS, workers=3, pod={"gpus": 1}))
    job = team.until(
        "job",
        "the third worker to find no place",
        lambda j: (
            [w.reason for w in j.status.workers].count("Unschedulable") == 1
            and j.status.ready_workers == 2
        ),
    )
    assert job.status.phase == PHASE_PENDING
    (waiting,) = [w for w in job.status.workers if w.reason]
    assert f"worker {waiting.index}: its pod is Pending (Unschedulable: " in job.status.message
    assert f"Insufficient {GPU}" in job.status.message
    assert job.status.message in team.kubectl("describe", "tj", "job")

    team.cluster.set_gpus(team.cluster.nodes[0], 2)
    team.until_steps("job")
    assert len(team.client.get("job").status.members) == 3


def test_a_finished_job_is_kept_as_long_as_it_asks_for(team: Team) -> None:
    team.apply(team.manifest("job", steps=20, workers=1, ttlSecondsAfterFinished=2))
    team.wait("job", "condition=Complete")
    team.deleted("job")
    assert not team.cluster.files(team.namespace, "taas-storage", "jobs")


@pytest.mark.parametrize(
    ("pod", "told"),
    [
        pytest.param(NOWHERE, {"Unschedulable"}, id="no node"),
        # The kubelet says the one while it tries, and the other while it waits to try again.
        pytest.param(NOTHING, {"ErrImagePull", "ImagePullBackOff"}, id="no image"),
    ],
)
def test_the_start_deadline_names_the_worker_and_why(
    team: Team, pod: dict[str, object], told: set[str]
) -> None:
    team.apply(team.manifest("job", startDeadlineSeconds=15, pod=pod))
    seen = team.until("job", f"{told}", lambda j: told & {w.reason for w in j.status.workers})
    # Of a worker on a node that is slow nothing may be known yet.
    index = next(w.index for w in seen.status.workers if w.reason in told)
    job = team.until("job", "to fail", phase_is("FAILED"))
    assert job.status.phase == PHASE_FAILED
    assert job.status.last_failure.reason == "StartDeadline"
    assert "not all workers came within 15 s: " in job.status.message
    assert f"worker {index}: its pod is Pending (" in job.status.message
    conditions = {c["type"]: c for c in team.job("job")["status"]["conditions"]}
    assert conditions["Failed"]["reason"] == "StartDeadline"
    team.until_gone("pods", "-l", "taas.dev/job=job")
