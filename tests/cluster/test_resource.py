"""The API server judges TrainingJobs by the resource definition: the other door of the service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.apiserver import ApiServer
from tests.cluster.commands import CommandFailed, run
from tests.cluster.layout import PROJECT
from tests.unit.bad_specs import BAD_SPECS, DIGEST, GOOD_CHANGES, SOUND, BadSpec

DEPLOY = PROJECT / "deploy"
ACCOUNT = "system:serviceaccount:taas-system:taas-controller"


def create(server: ApiServer, spec: dict[str, Any], name: str = "x", *, dry_run: bool) -> str:
    job = {
        "apiVersion": "taas.dev/v1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }
    options = ["--dry-run=server"] if dry_run else []
    return server.kubectl("create", *options, "-f", "-", stdin=json.dumps(job))


def refusal(server: ApiServer, *words: str, stdin: str | None = None) -> str:
    with pytest.raises(CommandFailed) as caught:
        server.kubectl(*words, stdin=stdin)
    return str(caught.value)


def patch(server: ApiServer, change: dict[str, Any]) -> tuple[str, ...]:
    return ("patch", "tj", "job", "--type=merge", "-p", json.dumps({"spec": change}))


@pytest.fixture
def job(api_server: ApiServer) -> Any:
    """A job with a source."""
    create(api_server, SOUND, "job", dry_run=False)
    yield "job"
    api_server.kubectl("delete", "tj", "job")


@pytest.mark.parametrize("bad", BAD_SPECS, ids=lambda bad: bad.what)
def test_a_bad_spec_is_refused(api_server: ApiServer, bad: BadSpec) -> None:
    with pytest.raises(CommandFailed) as caught:
        create(api_server, bad.spec, dry_run=True)
    assert bad.crd_says in str(caught.value)


@pytest.mark.parametrize("changes", GOOD_CHANGES.values(), ids=list(GOOD_CHANGES))
def test_a_sound_spec_is_accepted(api_server: ApiServer, changes: dict[str, Any]) -> None:
    create(api_server, SOUND | changes, dry_run=True)


@pytest.mark.parametrize("name", ["j" * 53, "a.b"])
def test_a_name_that_pods_cannot_have_is_refused(api_server: ApiServer, name: str) -> None:
    with pytest.raises(CommandFailed, match=r"metadata\.name"):
        create(api_server, SOUND, name, dry_run=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": {"module": "other.py"}}, "spec.task"),
        ({"source": {"digest": DIGEST[::-1], "sizeBytes": "10"}}, "spec.source"),
        ({"source": None, "task": {"module": "/task.py"}}, "spec.source"),
        ({"parameters": {"a": "1"}}, "spec.parameters"),
        ({"env": {"A": "1"}}, "spec.env"),
        ({"storage": {"claimName": "other"}}, "spec.storage"),
        ({"pod": {"image": "other"}}, "only while the job is suspended"),
        ({"pod": {"template": {"spec": {"hostname": "x"}}}}, "only while the job is suspended"),
        ({"workers": 0}, "spec.workers"),
        ({"minWorkers": 3}, "must not be more than workers"),
    ],
)
def test_what_may_not_change(
    api_server: ApiServer, job: str, change: dict[str, Any], says: str
) -> None:
    assert says in refusal(api_server, *patch(api_server, change))


def test_what_may_change(api_server: ApiServer, job: str) -> None:
    for change in (
        {"maxRestarts": 0, "graceSeconds": 5, "ttlSecondsAfterFinished": 9},
        # The same again, spelled out or not, is no change.
        {"parameters": {}, "env": None, "pod": {}, "storage": None, "cancel": None},
        {"suspend": True},
        {"pod": {"image": "other", "template": {"spec": {"hostname": "x"}}}},
        {"suspend": False},
        {"cancel": True},
    ):
        api_server.kubectl(*patch(api_server, change))
    for change in ({"cancel": False}, {"cancel": None}):
        assert "cannot be taken back" in refusal(api_server, *patch(api_server, change))


def test_scaling_and_waiting_and_what_is_shown(api_server: ApiServer, job: str) -> None:
    api_server.kubectl("scale", "tj", "job", "--replicas=3")
    status = {
        "phase": "PHASE_SUCCEEDED",
        "readyWorkers": 3,
        # Not a number, as proto JSON writes it.
        "progress": {"step": "12", "totalSteps": "100", "loss": "NaN", "secondsLeft": 61.7},
        "conditions": [
            {"type": "Complete", "status": "True", "reason": "Succeeded"},
            {"type": "Running", "status": "False", "reason": "Succeeded"},
        ],
        "events": [{"number": 1, "event": {"anything": True}}],
    }
    words = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    api_server.kubectl("patch", "tj", "job", *words)
    api_server.kubectl("wait", "--for=condition=Complete", "tj/job", "--timeout=60s")
    path = "/apis/taas.dev/v1/namespaces/default/trainingjobs/job/scale"
    scale = json.loads(api_server.kubectl("get", "--raw", path))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 3)
    head, line = api_server.kubectl("get", "tj", "job").splitlines()
    assert head.split()[:6] == ["NAME", "PHASE", "READY", "WORKERS", "STEP", "TOTAL"]
    assert line.split()[:6] == ["job", "Succeeded", "3", "3", "12", "100"]
    said = refusal(api_server, "scale", "tj", "job", "--replicas=1")
    assert "a finished job cannot be scaled" in said


def test_the_resource_explains_itself(api_server: ApiServer) -> None:
    text = api_server.kubectl("explain", "trainingjob.spec.checkpoints.everySeconds")
    assert "Seconds between two checkpoints" in text


@pytest.mark.parametrize("folder", [".", "overlays/single-node", "overlays/gpu", "tenant"])
def test_the_manifests_are_accepted(api_server: ApiServer, folder: str) -> None:
    made = api_server.kubectl("kustomize", str(DEPLOY / folder))
    # Namespaces that a dry run does not make are not there for what comes next.
    made = made.replace("namespace: taas-system", "namespace: default")
    words = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-")
    api_server.kubectl(*words, stdin=made)


def test_an_overlay_sets_the_images(api_server: ApiServer, tmp_path: Any) -> None:
    # kustomize takes relative paths only.
    base = run("realpath", f"--relative-to={tmp_path}", DEPLOY / "base").strip()
    text = f"resources: [{base}]\nimages: [{{name: taas-trainer, newName: r/t, newTag: '2'}}]\n"
    (tmp_path / "kustomization.yaml").write_text(text)
    made = api_server.kubectl("kustomize", str(tmp_path))
    assert "trainer: r/t:2" in made
    assert "controller: taas-controller:latest" in made


@pytest.mark.parametrize(
    ("verb", "what", "may"),
    [
        ("patch", "trainingjobs.taas.dev/x --subresource=status", True),
        ("create", "pods", True),
        ("get", "pods/x --subresource=log", False),
        ("create", "secrets", True),
        ("list", "secrets", False),
        ("get", "persistentvolumeclaims", True),
        ("get", "nodes", False),
        ("update", "leases.coordination.k8s.io", False),
        ("create", "tokenreviews.authentication.k8s.io", True),
    ],
)
def test_the_controller_may_do_what_it_needs_and_no_more(
    api_server: ApiServer, verb: str, what: str, may: bool
) -> None:
    made = api_server.kubectl("kustomize", str(DEPLOY / "base")).split("\n---\n")
    roles = [part for part in made if "kind: ClusterRole" in part]
    api_server.kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(roles))
    words = ("auth", "can-i", verb, *what.split(), "-n", "other", f"--as={ACCOUNT}")
    try:
        answer = api_server.kubectl(*words)
    except CommandFailed as failed:
        answer = str(failed)
    assert ("yes" in answer.splitlines()[0].split()) is may
