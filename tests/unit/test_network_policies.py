"""Who reaches whom by the NetworkPolicies of deploy/, with pods labelled as the code does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.gateway import pods as gateway
from controller.render import kubernetes_settings, render
from tests.builders import job
from tests.policies import Network, Peer, Policy

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SYSTEM, TEAM, OTHER, MONITORING = "taas-system", "team-a", "team-b", "monitoring"


def documents(path: str) -> tuple[Any, ...]:
    return tuple(yaml.safe_load_all((DEPLOY / path).read_text()))


def policies(*paths: str) -> tuple[Policy, ...]:
    return tuple(d for path in paths for d in documents(path) if d["kind"] == "NetworkPolicy")


def template_labels(path: str) -> dict[str, str]:
    (found,) = [d for d in documents(path) if d["kind"] == "Deployment"]
    labels: dict[str, str] = found["spec"]["template"]["metadata"]["labels"]
    return labels


TENANT = "tenant/network-policies.yaml"
NETWORK = Network(
    {SYSTEM: {}, TEAM: {}, OTHER: {}, "kube-system": {}, MONITORING: {"taas.dev/metrics": "true"}},
    {
        SYSTEM: policies("base/network-policies.yaml"),
        TEAM: policies(TENANT, "serving/network-policies.yaml"),
        OTHER: policies(TENANT),
    },
)
WORKER = render(job(), 0, kubernetes_settings("taas:8474", "image", ""))
GATEWAY = gateway.render_gateway(TEAM, "claim", gateway.GatewaySettings("image"), "uid")
CONTROLLER_LABELS = template_labels("base/controller.yaml")
PEERS = {
    "worker": Peer(TEAM, WORKER["metadata"]["labels"]),
    "other's worker": Peer(OTHER, WORKER["metadata"]["labels"]),
    "gateway": Peer(TEAM, GATEWAY["metadata"]["labels"]),
    "controller": Peer(SYSTEM, CONTROLLER_LABELS),
    "other in system": Peer(SYSTEM, {}),
    "neighbour": Peer(TEAM, {"app": "notebook"}),
    "stranger": Peer(OTHER, {"app": "notebook"}),
    "poser": Peer(OTHER, CONTROLLER_LABELS),
    "serving": Peer(TEAM, template_labels("serving/deployment.yaml")),
    "names": Peer("kube-system", {"k8s-app": "kube-dns"}),
    "prometheus": Peer(MONITORING, {"app": "prometheus"}),
    "outside": Peer(),
}
GRPC, WORKERS, GATEWAY_PORT, METRICS, ANY = 8470, 8474, gateway.PORT, 8473, 40_000


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        ("worker", "worker", ANY),
        ("worker", "controller", WORKERS),
        ("other's worker", "controller", WORKERS),
        ("worker", "names", 53),
        ("controller", "gateway", GATEWAY_PORT),
        ("controller", "outside", 443),
        ("controller", "outside", 6443),
        ("controller", "names", 53),
        ("outside", "controller", GRPC),
        ("stranger", "controller", GRPC),
        ("prometheus", "controller", METRICS),
        ("neighbour", "serving", 8500),
        ("neighbour", "serving", 8501),
        ("serving", "controller", GRPC),
    ],
)
def test_what_is_needed_is_let_through(source: str, target: str, port: int) -> None:
    assert NETWORK.lets(PEERS[source], PEERS[target], port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        # A job's workers: each other, their door of the controller, names; nothing else.
        ("worker", "controller", GRPC),
        ("worker", "other's worker", ANY),
        ("other's worker", "worker", ANY),
        ("worker", "gateway", GATEWAY_PORT),
        ("worker", "outside", 443),
        ("worker", "outside", 6443),
        ("worker", "outside", 80),
        ("worker", "neighbour", 80),
        ("worker", "serving", 8500),
        ("worker", "controller", METRICS),
        ("worker", "poser", WORKERS),
        ("neighbour", "worker", ANY),
        ("stranger", "worker", ANY),
        ("controller", "worker", ANY),
        ("outside", "worker", ANY),
        # Gateways answer the controller and call nobody.
        ("neighbour", "gateway", GATEWAY_PORT),
        ("other's worker", "gateway", GATEWAY_PORT),
        ("poser", "gateway", GATEWAY_PORT),
        ("controller", "gateway", gateway.HEALTH_PORT),
        ("gateway", "controller", GRPC),
        ("gateway", "worker", ANY),
        ("gateway", "outside", 443),
        ("gateway", "names", 53),
        # The controller, and what else is in its namespace.
        ("stranger", "controller", METRICS),
        ("stranger", "controller", WORKERS),
        ("neighbour", "controller", WORKERS),
        ("serving", "controller", WORKERS),
        ("outside", "controller", WORKERS),
        ("outside", "controller", METRICS),
        ("prometheus", "controller", 8472),
        ("controller", "outside", 80),
        ("other in system", "outside", 443),
        ("other in system", "controller", ANY),
        ("stranger", "other in system", ANY),
        # The prediction service.
        ("stranger", "serving", 8500),
        ("serving", "worker", ANY),
        ("serving", "outside", 443),
        ("serving", "poser", GRPC),
    ],
)
def test_nothing_else_is(source: str, target: str, port: int) -> None:
    assert not NETWORK.lets(PEERS[source], PEERS[target], port)


def test_names_are_asked_by_either_protocol() -> None:
    for source in ("worker", "controller", "serving"):
        for protocol in ("TCP", "UDP"):
            assert NETWORK.lets(PEERS[source], PEERS["names"], 53, protocol)


def test_without_policies_everything_is_open() -> None:
    bare = Network({TEAM: {}, OTHER: {}}, {})
    assert bare.lets(PEERS["stranger"], PEERS["worker"], ANY)
