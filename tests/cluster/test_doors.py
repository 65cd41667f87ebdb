"""Two doors, one truth: what comes in by gRPC is seen by kubectl, and the reverse."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from protos.taas.v1.job_pb2 import Phase, Source
from taas import NotFound
from tests.cluster.installed import Service
from tests.cluster.team import DIGITS, Team, manifest, phase_is, refusal

ENDLESS = 1_000_000


def patch(team: Team, name: str, **spec: Any) -> None:
    change = json.dumps({"spec": spec})
    team.kubectl("patch", "tj", name, "--type=merge", "-p", change)


def indexes(team: Team, name: str) -> list[str]:
    return [pod["metadata"]["labels"]["taas.dev/worker"] for pod in team.pods(name)]


def test_what_grpc_makes_kubectl_changes(team: Team) -> None:
    team.client.submit(DIGITS, name="job", workers=1, parameters={"steps": ENDLESS})
    assert team.job("job")["spec"]["parameters"] == {"steps": str(ENDLESS)}
    team.until_steps("job")

    team.kubectl("scale", "tj", "job", "--replicas=2")
    team.until("job", "two members", lambda j: len(j.status.members) == 2)
    team.wait("job", "condition=Running")
    assert indexes(team, "job") == ["0", "1"]
    assert team.kubectl("get", "tj/job", "-o", "jsonpath={.status.readyWorkers}") == "2"

    patch(team, "job", suspend=True)
    team.until("job", "to be held", phase_is("SUSPENDED"))
    team.until_gone("pods", "-l", "taas.dev/job=job")
    saved = team.client.checkpoints("job")[0].step

    patch(team, "job", suspend=False)
    assert team.until_steps("job", saved) > saved

    patch(team, "job", cancel=True)
    team.until("job", "to be cancelled", phase_is("CANCELLED"))
    # Finished: neither door lets it be changed.
    why = refusal(lambda: team.kubectl("scale", "tj", "job", "--replicas=1"))
    assert "a finished job cannot be scaled" in why
    assert "cannot be scaled: it is cancelled" in refusal(lambda: team.taas("scale", "job", "1"))

    team.kubectl("delete", "tj", "job")
    with pytest.raises(NotFound):
        team.client.get("job")


def test_what_kubectl_makes_grpc_changes(team: Team) -> None:
    team.apply(team.manifest("job", steps=ENDLESS))
    assert [job.name for job in team.client.list()] == [
        f"namespaces/{team.namespace}/trainingJobs/job"
    ]
    team.until_steps("job")

    team.client.scale("job", 1)
    assert team.job("job")["spec"]["workers"] == 1
    team.until("job", "one member", lambda j: list(j.status.members) == [0])

    team.client.suspend("job")
    team.wait("job", "condition=Suspended")
    assert team.job("job")["spec"]["suspend"] is True
    team.until_gone("pods", "-l", "taas.dev/job=job")

    team.client.resume("job")
    team.wait("job", "condition=Running")

    team.client.delete("job")
    team.deleted("job")
    team.until_gone("pods", "-l", "taas.dev/job=job")


def test_waiting_for_the_end_with_kubectl(team: Team) -> None:
    team.apply(team.manifest("good", steps=20, workers=1))
    bad = team.manifest("bad", workers=1, maxRestarts=0)
    bad["spec"]["parameters"] = {"fail": "model"}
    team.apply(bad)
    team.wait("good", "condition=Complete")
    team.wait("bad", "condition=Failed")
    conditions = {c["type"]: c for c in team.job("bad")["status"]["conditions"]}
    assert conditions["Failed"]["reason"] == "InvalidProgram"
    assert "this network cannot be built" in conditions["Failed"]["message"]
    # Applied again as it is, nothing happens to it.
    assert "unchanged" in team.apply(team.manifest("good", steps=20, workers=1))
    assert team.client.get("good").status.phase == Phase.Value("PHASE_SUCCEEDED")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"workers": 0}, "spec.workers", id="no workers"),
        pytest.param({"parameters": {"a-b": "1"}}, "spec.parameters", id="bad parameter"),
        pytest.param({"wrokers": 2}, 'unknown field "spec.wrokers"', id="misspelt"),
        pytest.param({"task": {"module": "task.txt"}}, "spec.task.module", id="no module"),
        pytest.param({"minWorkers": 3}, "minWorkers", id="more at least than at most"),
    ],
)
def test_a_bad_manifest_is_refused_with_the_name_of_the_field(
    service: Service, change: dict[str, Any], told: str
) -> None:
    bad = manifest("bad", Source(digest="0" * 64, size_bytes=1))
    bad["spec"] |= change
    document = json.dumps(bad)
    assert told in refusal(lambda: service.kubectl("apply", "-f", "-", stdin=document))
    assert not service.kubectl("get", "tj", "-o", "name")


def test_explain_reads_as_documentation(service: Service) -> None:
    said = service.kubectl("explain", "trainingjob.spec")
    for field in ("workers", "minWorkers", "checkpoints", "maxRestarts", "suspend"):
        # Name, type, and at least a sentence.
        assert re.search(rf"^  {field}\t<\w+>.*\n(    .+\n)+", said, re.MULTILINE), field
    assert "<no description>" not in said
    assert "<no description>" not in service.kubectl("explain", "trainingjob.status.progress")
