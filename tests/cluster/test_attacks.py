"""Programs and people that mean harm, on a real cluster: contained, and told of by name."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from protos.taas.v1.job_pb2 import PHASE_SUCCEEDED
from taas.access import Access
from taas.errors import NotFound, Unauthenticated
from tests.cluster import attackers, layout, tokens
from tests.cluster.commands import wait_until
from tests.cluster.installed import NAMESPACE, Service
from tests.cluster.team import DIGITS, Team, new_namespace, phase_is, team_in, watching

ENDLESS = 1_000_000


@pytest.fixture
def small(service: Service) -> Iterator[Team]:
    """A team whose claim is on a small disk."""
    with (
        new_namespace(service.cluster) as name,
        team_in(service, name, place=layout.SMALL_DISK) as team,
    ):
        yield team


def check_others_train(team: Team) -> None:
    """A job of somebody else, submitted now, comes to its end without a restart."""
    team.client.submit(DIGITS, name="mine", workers=2, parameters={"steps": 100})
    assert max(watching(team, "mine").join().steps) == 100
    status = team.client.get("mine").status
    assert (status.phase, status.restarts) == (PHASE_SUCCEEDED, 0), status


def check_cancelled(team: Team, name: str) -> None:
    """A job can be ended, and nothing of it runs then."""
    uids = [pod["metadata"]["uid"] for pod in team.pods(name)]
    team.client.cancel(name)
    team.until(name, "to be cancelled", phase_is("CANCELLED"))
    team.until_gone("pods", "-l", f"taas.dev/job={name}")
    assert not any(team.cluster.processes_of_pod(uid) for uid in uids)


# --- Programs


def test_a_bomb_of_forks_stays_in_its_pod(team: Team, other_team: Team) -> None:
    bomb = attackers.python("bomb", attackers.FORK_ON)
    # On both nodes.
    bomb["spec"]["workers"] = 2
    team.apply(bomb)
    wait_until(
        "the limit to be told of",
        lambda: attackers.said(team, "bomb").count("the limit on processes and threads") == 2,
    )
    for pod in team.pods("bomb"):
        assert 0 < len(team.cluster.processes_of_pod(pod["metadata"]["uid"])) <= layout.POD_PIDS
    check_others_train(other_team)
    check_cancelled(team, "bomb")


def test_a_program_with_too_many_processes_is_told_why_it_fell(team: Team) -> None:
    team.apply(attackers.python("fork", attackers.FORK_AND_FALL, maxRestarts=1))
    job = team.until("fork", "to fail", phase_is("FAILED"))
    assert job.status.crashes == 2
    assert job.status.last_failure.reason == "TooManyRestarts"
    assert "the limit on processes and threads of the pod has been reached" in job.status.message
    assert "Resource temporarily unavailable" in job.status.last_failure.details


def test_a_program_that_fills_the_disk_of_its_node_is_ended(team: Team, other_team: Team) -> None:
    pod = {"limits": {"ephemeral-storage": "64Mi"}}
    hog = attackers.python("hog", attackers.FILL, "/tmp/hog", "256", pod=pod, maxRestarts=0)
    team.apply(hog)
    job = team.until("hog", "to fail", phase_is("FAILED"))
    assert job.status.crashes == 1
    assert "OutOfDisk" in job.status.message
    assert "64Mi" in job.status.message
    check_others_train(other_team)
    team.until_gone("pods", "-l", "taas.dev/job=hog")


def test_a_program_that_fills_its_claim_harms_its_own_namespace_alone(
    small: Team, other_team: Team
) -> None:
    size = str(2 * layout.SMALL_DISK_MB)
    small.apply(attackers.python("hog", attackers.FILL, "hog", size, maxRestarts=0))
    job = small.until("hog", "to fail", phase_is("FAILED"))
    assert "No space left on device" in job.status.last_failure.details, job.status
    check_others_train(other_team)
    # To delete the job is to make room.
    small.client.delete("hog")
    small.deleted("hog")
    check_others_train(small)


def test_a_program_that_kills_its_agent_is_tried_again_ever_more_rarely(
    team: Team, other_team: Team
) -> None:
    team.apply(attackers.python("killer", attackers.KILL_THE_AGENT))

    def rarely(job: object) -> bool:
        message = job.status.message  # type: ignore[attr-defined]
        found = re.search(r"restarting in (\d+) s after: (.*worker 0.*)", message)
        return found is not None and int(found[1]) >= 2

    job = team.until("killer", "the wait to grow", rarely)
    assert job.status.crashes == 0
    # Neither SIGKILL nor SIGSTOP reaches process 1 from inside of its container.
    assert "the agent lives" in attackers.said(team, "killer")
    check_others_train(other_team)
    check_cancelled(team, "killer")


def test_a_worker_has_no_right_on_the_kubernetes_api(team: Team) -> None:
    team.apply(team.manifest("job", steps=ENDLESS, workers=1))
    team.until_steps("job")
    said = team.in_pod("job-0", attackers.ASK_THE_API_SERVER)
    assert said.split() == ["False", "401"]


def test_privileges_are_refused_and_the_refusal_is_told(team: Team) -> None:
    # Kubernetes itself allows the one with the other only.
    wanted = {"privileged": True, "allowPrivilegeEscalation": True}
    container = {"name": "worker", "securityContext": wanted}
    pod = {"template": {"spec": {"containers": [container]}}}
    team.apply(team.manifest("root", workers=1, pod=pod))
    job = team.until("root", "to be refused", lambda j: "violates PodSecurity" in j.status.message)
    assert "its pod was refused" in job.status.message
    assert not team.pods("root")


# --- Tokens and streams


def test_an_expired_token_is_refused(team: Team) -> None:
    team.kubectl("create", "serviceaccount", "ada")
    member = f"--serviceaccount={team.namespace}:ada"
    team.kubectl("create", "rolebinding", "ada", "--clusterrole=edit", member)
    token = team.kubectl("create", "token", "ada", "--audience=taas.dev").strip()
    key = team.cluster.signing_key()
    with attackers.client_with(team, tokens.resigned(token, key)) as ada:
        assert not list(ada.list())
    late = tokens.expired(token, key)
    with attackers.client_with(team, late) as ada, pytest.raises(Unauthenticated, match="expired"):
        list(ada.list())


def test_a_worker_is_believed_for_its_own_pod_and_while_that_lives(
    team: Team, other_team: Team
) -> None:
    for each, name in ((team, "own"), (team, "next"), (other_team, "own")):
        each.apply(each.manifest(name, steps=ENDLESS, workers=1))
    for each, name in ((team, "own"), (team, "next"), (other_team, "own")):
        each.until_steps(name)
    (own,), (beside,), (theirs,) = team.pods("own"), team.pods("next"), other_team.pods("own")
    token = team.in_pod("own-0", attackers.READ_TOKEN).strip()
    refused = grpc.StatusCode.PERMISSION_DENIED

    # Another job of its namespace, and one of the same name elsewhere.
    assert attackers.connect(team, token, attackers.hello_of(beside)) is refused
    assert attackers.connect(team, token, attackers.hello_of(theirs)) is refused
    # Its own pod, said to be a worker of another job, or another worker of its job.
    for changes in (
        {"job": "next", "job_uid": attackers.hello_of(beside).job_uid},
        {"index": 1},
        {"job_uid": "forged"},
    ):
        lie = attackers.hello_of(own)
        for field, value in changes.items():
            setattr(lie, field, value)
        assert attackers.connect(team, token, lie) is grpc.StatusCode.NOT_FOUND, changes
    # A worker's token is no caller's.
    with attackers.client_with(team, token) as caller, pytest.raises(Unauthenticated):
        list(caller.list())
    for each in (team, other_team):
        for job in each.client.list():
            assert job.status.restarts == 0

    # What its pod once said, said again when it is gone.
    team.kubectl("delete", "pod", "own-0", "--force", "--grace-period=0")
    team.until("own", "another pod", lambda j: j.status.generation == 2)
    late = attackers.connect(team, token, attackers.hello_of(own))
    assert late in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAUTHENTICATED)
    team.until_steps("own")


def private(team: Team) -> dict[str, str]:
    """Every secret that has to do with a team whose job `job` runs, or a part that says it all."""
    found = {
        "a worker's token": team.in_pod("job-0", attackers.READ_TOKEN).strip(),
        "a caller's token": Access.of(os.environ).shown_token(),
    }
    for namespace in (NAMESPACE, team.namespace):
        text = team.cluster.kubectl("-n", namespace, "get", "secrets", "-o", "json")
        for secret in json.loads(text)["items"]:
            for key in {"token", "tls.key", "ca.key"} & set(secret.get("data") or ()):
                value = base64.b64decode(secret["data"][key]).decode()
                # Of a key in PEM the first line that is its own.
                lines = [line for line in value.splitlines() if not line.startswith("-----")]
                found[f"{secret['metadata']['name']}/{key}"] = lines[0]
    return found


def public(team: Team) -> dict[str, str]:
    """All that others than their owners may get to see of a team and of the service."""
    found = {"log of the worker": attackers.said(team, "job")}
    for namespace in (NAMESPACE, team.namespace):
        for kind in ("pods", "tj", "events", "configmaps", "leases"):
            words = ("-n", namespace, "get", kind, "-o", "json")
            found[f"{kind} of {namespace}"] = team.cluster.kubectl(*words)
        for pod in json.loads(found[f"pods of {namespace}"])["items"]:
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            found[f"log of {name}"] = team.cluster.kubectl("-n", namespace, "logs", name)
            for pid in team.cluster.processes_of_pod(uid):
                for file in ("cmdline", "environ"):
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                        text = Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace")
                        found[f"{file} of {pid} in {name}"] = text
    return found


def test_secrets_are_in_no_log_status_or_process_list(team: Team) -> None:
    team.apply(team.manifest("job", steps=ENDLESS, workers=1))
    team.until_steps("job")
    # Over a gateway, which has a token and a key.
    assert team.client.files("job") is not None
    secrets, texts = private(team), public(team)
    assert len(secrets) >= 5
    assert any("taas-gateway" in name for name in texts)
    for secret, value in secrets.items():
        assert len(value) > 20, secret
        assert not [where for where, text in texts.items() if value in text], secret


# --- Files


def tar_of(name: str, *, size: int = 1, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """An archive of one member, which may claim any size."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, link
    content = b"x" if kind == tarfile.REGTYPE else b""
    packed = io.BytesIO(member.tobuf(tarfile.GNU_FORMAT) + content.ljust(512, b"\0") + bytes(1024))
    return attackers.packed(packed.getvalue())


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        pytest.param(tar_of("../../out"), "leaves its folder", id="parent"),
        pytest.param(tar_of("/taas/storage/out"), "leaves its folder", id="absolute"),
        pytest.param(
            tar_of("link", kind=tarfile.SYMTYPE, size=0, link="/taas/storage"),
            "neither a file nor a folder",
            id="link",
        ),
        pytest.param(tar_of("bomb", size=5 << 30), "unpacks to more than", id="bomb"),
    ],
)
def test_an_archive_that_means_harm_ends_its_job(team: Team, archive: bytes, told: str) -> None:
    source = attackers.upload(team, archive)
    job = team.manifest("job", workers=1)
    job["spec"]["source"] = {"digest": source.digest, "sizeBytes": source.size_bytes}
    team.apply(job)
    found = team.until("job", "to fail", phase_is("FAILED"))
    assert found.status.last_failure.reason == "InvalidProgram"
    assert told in found.status.message
    every = team.cluster.on_claim(team.namespace, "taas-storage", "find", ".", "-name", "*out*")
    assert set(every.split()) <= {f"./jobs/{team.namespace}/job/{found.uid}/output"}


def test_forged_checkpoints_lead_nowhere(team: Team) -> None:
    checkpoints = {"everySteps": 50}
    team.apply(team.manifest("job", steps=ENDLESS, workers=1, checkpoints=checkpoints))
    job = team.until("job", "a checkpoint", lambda j: j.status.last_checkpoint.step > 0)
    (real, *_) = team.client.checkpoints("job")
    folder = f"jobs/{team.namespace}/job/{job.uid}/checkpoints"
    forged = {
        # One that names what lies elsewhere, and one that is not what it says.
        "step-0000900000.g000001": [{"path": "../../../../../x", "size": 1, "sha256": "0" * 64}],
        "step-0000900001.g000001": [{"path": "variables.index", "size": 1, "sha256": "0" * 64}],
    }
    for name, files in forged.items():
        manifest = {"step": int(name[5:15]), "generation": 1, "time": 1.0, "metrics": {}}
        text = json.dumps(manifest | {"files": files})
        put = 'umask 0; mkdir -p "$1" && printf %s "$2" > "$1/manifest.json" && printf x > "$1/$3"'
        place = f"{folder}/{name}"
        words = ("sh", "-c", put, "sh", place, text, "variables.index")
        team.cluster.on_claim(team.namespace, "taas-storage", *words)

    listed = {checkpoint.id for checkpoint in team.client.checkpoints("job")}
    assert "step-0000900000.g000001" not in listed
    inside = {file.path for file in team.client.files("job", "step-0000900001.g000001")}
    assert inside <= {"variables.index", "manifest.json"}
    for path in ("../../../../../x", f"../checkpoints/{real.id}/manifest.json", "/etc/passwd"):
        with pytest.raises(NotFound):
            b"".join(team.client.read("job", path))
    team.kubectl("delete", "pod", "job-0", "--force", "--grace-period=0")
    watch = watching(team, "job")

    def restored() -> list[object]:
        return [e.record.restored for e in watch.story.events if e.record.HasField("restored")]

    wait_until("it to be restored", lambda: bool(restored()))
    (found, *_) = restored()
    assert 0 < found.step < 900_000  # type: ignore[attr-defined]
    assert "step-0000900001.g000001" in "".join(found.skipped)  # type: ignore[attr-defined]
    team.client.cancel("job")
    watch.join()
