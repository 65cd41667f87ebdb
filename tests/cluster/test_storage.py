"""Files of tenants lie apart from each other, and go with their jobs."""

from __future__ import annotations

from pathlib import Path

from protos.taas.v1.job_pb2 import PHASE_SUCCEEDED
from tests.cluster.team import DIGITS, Team, watching

GATEWAY = "app.kubernetes.io/name=taas-gateway"


def gateway(team: Team) -> str:
    """The uid of the one gateway of a namespace."""
    query = "jsonpath={.items[*].metadata.uid}"
    (uid,) = team.kubectl("get", "pods", "-l", GATEWAY, "-o", query).split()
    return uid


def test_jobs_of_one_name_in_two_namespaces_do_not_touch(
    team: Team, other_team: Team, tmp_path: Path
) -> None:
    teams = (team, other_team)
    for number, each in enumerate(teams):
        each.client.submit(
            DIGITS, name="same", workers=1, parameters={"steps": 100 + number, "seed": number}
        )
    losses = []
    for number, each in enumerate(teams):
        story = watching(each, "same").join()
        assert max(story.steps) == 100 + number
        losses.append(story.test["loss"])
        assert each.taas("logs", "same")
        files = each.client.download("same", tmp_path / each.namespace)
        assert tmp_path / each.namespace / "model" / "saved_model.pb" in files
        kept = each.cluster.files(each.namespace, "taas-storage", "jobs")
        assert all(path.startswith(f"jobs/{each.namespace}/same/") for path in kept)
    assert losses[0] != losses[1]
    assert gateway(team) != gateway(other_team)

    team.client.delete("same")
    team.deleted("same")
    assert not team.cluster.files(team.namespace, "taas-storage", "jobs")
    assert other_team.client.get("same").status.phase == PHASE_SUCCEEDED
    assert other_team.client.files("same")
