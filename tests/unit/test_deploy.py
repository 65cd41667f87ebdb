"""The manifests of deploy/ and examples/jobs agree with the code. No cluster is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from controller.access.rules import RULES
from controller.config import KubernetesConfig, parse_arguments
from controller.gateway import pods as gateway
from controller.kubernetes.leader import LABEL_LEADER
from controller.model import DEFAULT_CLAIM
from controller.parse_spec import spec_from_wire
from controller.render import LABEL_NAME, WORKER_APP
from controller.restricted import USER
from protos.taas.v1 import job_pb2
from serving.server import Settings
from taas import cli, documents

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = sorted(path for path in (ROOT / "deploy").rglob("*.yaml"))
JOBS = sorted((ROOT / "examples" / "jobs").glob("*.yaml"))


def objects(paths: list[Path], kind: str = "") -> Iterator[dict[str, Any]]:
    for path in paths:
        for document in yaml.safe_load_all(path.read_text()):
            if not kind or document.get("kind") == kind:
                yield document


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = [o for o in objects(DEPLOY, kind) if o["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_an_example_is_a_sound_job(path: Path) -> None:
    (job,) = objects([path], "TrainingJob")
    assert job["apiVersion"] == documents.API_VERSION
    spec_from_wire(json_format.ParseDict(job["spec"], job_pb2.TrainingJobSpec()), "spec")


@pytest.mark.parametrize("folder", sorted({p.parent for p in DEPLOY if p.name != "crd.yaml"}))
def test_every_manifest_is_listed(folder: Path) -> None:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    listed = {*kustomization["resources"], *kustomization.get("configurations", ())}
    here = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert here <= listed
    assert all((folder / name).exists() for name in listed)


def test_no_role_has_a_wildcard() -> None:
    for role in (*objects(DEPLOY, "ClusterRole"), *objects(DEPLOY, "Role")):
        for rule in role["rules"]:
            assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}


def test_the_service_leads_to_the_leader() -> None:
    selector = one("Service", "taas")["spec"]["selector"]
    pod = one("Deployment", "taas-controller")["spec"]["template"]
    assert selector == {**pod["metadata"]["labels"], LABEL_LEADER: "true"}


def test_the_controller_is_restricted() -> None:
    pod = one("Deployment", "taas-controller")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == USER
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_controller_has_twice_the_memory_that_it_is_promised_to_need() -> None:
    pod = one("Deployment", "taas-controller")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["memory"] == "1Gi"
    said = "stays below 512 MiB"
    assert said in " ".join((ROOT / "docs" / "security.md").read_text().split())


def test_the_controller_understands_its_arguments() -> None:
    pod = one("Deployment", "taas-controller")["spec"]["template"]["spec"]
    config = parse_arguments(pod["containers"][0]["args"])
    assert isinstance(config, KubernetesConfig)
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert (config.listen, config.health) == (f"[::]:{ports['grpc']}", f"[::]:{ports['health']}")


def test_the_controller_may_keep_its_certificate() -> None:
    pod = one("Deployment", "taas-controller")["spec"]["template"]["spec"]
    config = parse_arguments(pod["containers"][0]["args"])
    (rule,) = one("Role", "taas-certificate")["rules"]
    assert isinstance(config, KubernetesConfig)
    assert rule["resourceNames"] == [config.tls_secret]


def test_the_prediction_service_is_restricted_and_understands_its_arguments() -> None:
    pod = one("Deployment", "taas-serving")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    words = cli._parser().parse_args(["serve", *container["args"]])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": words.grpc_port, "http": words.port}
    assert words.drain_s + Settings(Path()).grace_s < pod["terminationGracePeriodSeconds"]
    names = {variable["name"] for variable in container["env"]}
    assert {"TAAS_TARGET", "TAAS_TOKEN_FILE", "TAAS_CA_FILE"} <= names


def test_the_prediction_service_may_fetch_models_and_no_more() -> None:
    (rule,) = one("Role", "taas-serving")["rules"]
    assert rule["verbs"] == ["get"]
    fetching = ("GetTrainingJob", "ListCheckpoints", "ListFiles", "DownloadFile")
    wanted = set()
    for name in fetching:
        rpc = RULES[f"/taas.v1.TrainingService/{name}"]
        assert rpc.action is not None
        job = "namespaces/a/trainingJobs/b"
        action = rpc.action(SimpleNamespace(name=job, parent=job))
        assert action.verb == "get"
        wanted.add("/".join(filter(None, ("trainingjobs", action.subresource))))
    assert set(rule["resources"]) == wanted


def granted(*roles: str) -> set[tuple[str, str]]:
    """Return (resource, verb) that ClusterRoles give."""
    rules = [rule for role in roles for rule in one("ClusterRole", role)["rules"]]
    return {(what, verb) for rule in rules for what in rule["resources"] for verb in rule["verbs"]}


def test_people_with_edit_may_make_every_call() -> None:
    request = SimpleNamespace(
        name="namespaces/a/trainingJobs/b",
        parent="namespaces/a",
        header=SimpleNamespace(parent="namespaces/a"),
    )
    of_a_job = SimpleNamespace(parent=request.name)
    edit = granted("taas-user-view", "taas-user-edit")
    for method, rule in RULES.items():
        if rule.action is not None:
            action = rule.action(of_a_job if "File" in method or "Check" in method else request)
            what = "/".join(filter(None, ("trainingjobs", action.subresource)))
            assert (what, action.verb) in edit, method
            reads = action.verb in ("get", "list", "watch")
            assert ((what, action.verb) in granted("taas-user-view")) is reads, method


def test_network_policies_name_pods_and_ports_as_they_are() -> None:
    policies = list(objects(DEPLOY, "NetworkPolicy"))
    selected = {
        policy["spec"]["podSelector"].get("matchLabels", {}).get(LABEL_NAME) for policy in policies
    }
    assert selected == {None, "taas-controller", "taas-serving", WORKER_APP, gateway.NAME}
    (ingress,) = one("NetworkPolicy", "taas-gateways")["spec"]["ingress"]
    assert ingress["ports"] == [{"port": gateway.PORT}]


def test_claims_are_those_that_jobs_use_by_default() -> None:
    claims = list(objects(DEPLOY, "PersistentVolumeClaim"))
    assert {claim["metadata"]["name"] for claim in claims} == {DEFAULT_CLAIM}
    assert all(claim["spec"]["accessModes"] == ["ReadWriteMany"] for claim in claims)
