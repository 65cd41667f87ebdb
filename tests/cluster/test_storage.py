"""Files of tenants lie apart from each other, and go with their jobs."""

from __future__ import annotations

from pathlib import Path

from protos.taas.v1.job_pb2 import PHASE_SUCCEEDED
from tests.cluster.commands import wait_until
from tests.cluster.team import DIGITS, Manifest, Team, watching

GATEWAY = "app.kubernetes.io/name=taas-gateway"
MANY = 500
# A gigabyte whose every block says which it is.
BLOCKS, BLOCK_BYTES = 1024, 1 << 20
WRITER = f"""
import sys
with open("big", "wb") as file:
    for number in range(int(sys.argv[1])):
        file.write(number.to_bytes(8) * {BLOCK_BYTES // 8})
"""
# Writes files that whoever comes may remove.
MAKE_FILES = 'umask 0; for file; do mkdir -p "${file%/*}" && echo > "$file"; done'


def command(name: str, *words: str) -> Manifest:
    """A job of one worker that runs a command."""
    return {
        "apiVersion": "taas.dev/v1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {"command": {"words": list(words)}, "workers": 1},
    }


def gateway(team: Team) -> str:
    """The uid of the one gateway of a namespace."""
    query = "jsonpath={.items[*].metadata.uid}"
    (uid,) = team.kubectl("get", "pods", "-l", GATEWAY, "-o", query).split()
    return uid


def files(team: Team) -> list[str]:
    """What jobs have on the claim of a namespace."""
    return team.cluster.files(team.namespace, "taas-storage", "jobs")


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
        fetched = each.client.download("same", tmp_path / each.namespace)
        assert tmp_path / each.namespace / "model" / "saved_model.pb" in fetched
        assert all(path.startswith(f"jobs/{each.namespace}/same/") for path in files(each))
    assert losses[0] != losses[1]
    assert gateway(team) != gateway(other_team)

    team.client.delete("same")
    team.deleted("same")
    assert not files(team)
    assert other_team.client.get("same").status.phase == PHASE_SUCCEEDED
    assert other_team.client.files("same")


def test_a_download_goes_on_where_it_was_when_its_gateway_dies(team: Team, tmp_path: Path) -> None:
    team.apply(command("big", "python3", "-c", WRITER, str(BLOCKS)))
    team.wait("big", "condition=Complete")
    died: list[str] = []

    def watch(done: int, total: int) -> None:
        assert done <= total == BLOCKS * BLOCK_BYTES
        if done > total // 3 and not died:
            died.append(gateway(team))
            team.kubectl("delete", "pod", "-l", GATEWAY, "--grace-period=0", "--force")

    (path,) = team.client.download("big", tmp_path, only=["big"], progress=watch)
    assert gateway(team) not in died
    with path.open("rb") as file:
        for number in range(BLOCKS):
            assert file.read(BLOCK_BYTES) == number.to_bytes(8) * (BLOCK_BYTES // 8)
        assert not file.read()


def test_many_jobs_deleted_at_once_leave_nothing(team: Team) -> None:
    jobs = [command(f"job-{number}", "true") for number in range(MANY)]
    for job in jobs:
        # They wait for a node that is not there.
        job["spec"]["pod"] = {"nodeSelector": {"taas.dev/no-such-node": "true"}}
    team.apply({"apiVersion": "v1", "kind": "List", "items": jobs})
    every_pod = ("pods", "-l", "taas.dev/job", "-o", "name")
    wait_until("all pods", lambda: len(team.kubectl("get", *every_pod).split()) == MANY)
    # What a worker that ran would have left.
    query = "jsonpath={range .items[*]}{.metadata.name}/{.metadata.uid} {end}"
    folders = team.kubectl("get", "tj", "-o", query).split()
    made = [f"jobs/{team.namespace}/{folder}/logs/worker-0.log" for folder in folders]
    assert len(made) == MANY
    team.cluster.on_claim(team.namespace, "taas-storage", "sh", "-c", MAKE_FILES, "sh", *made)
    assert files(team) == sorted(made)

    team.kubectl("delete", "tj", "--all", "--wait=false")
    team.until_gone("tj")
    team.until_gone("pods", "-l", "taas.dev/job")
    assert not files(team)
    secrets = team.kubectl("get", "secrets", "-o", "name").split()
    assert all(name.startswith("secret/taas-gateway-") for name in secrets)
