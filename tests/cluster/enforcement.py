"""Enforces NetworkPolicies on the nodes of the test cluster, whose network, a bridge, does not.

The kernel of each node refuses to forward what no policy lets through, as a network plugin's
agent would have it do. What policies say is computed by tests.policies; only its rules for
matchLabels and ports are known.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.cluster import layout
from tests.cluster.access import Cluster
from tests.cluster.commands import CommandFailed, run
from tests.cluster.layout import Node
from tests.policies import Network, Peer, Policy

_CHAIN = "TAAS-POLICY"
_BRIDGED = "/proc/sys/net/bridge/bridge-nf-call-iptables"
_EVERY_S = 1.0
_SIDES = (("Egress", "to", "-s", "-d"), ("Ingress", "from", "-d", "-s"))
# Who is refused hears of it at once.
_REFUSE = "-j REJECT --reject-with icmp-admin-prohibited"


@dataclass(frozen=True, slots=True)
class _Pod:
    ip: str
    peer: Peer


@contextlib.contextmanager
def enforced(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Policies hold inside. Gives a function that returns once they hold for every pod that there
    is when it is called; newer ones are open until they are seen."""
    over, seen = threading.Event(), threading.Condition()
    rounds = 0

    def follow() -> None:
        nonlocal rounds
        while not over.is_set():
            rules = _rules(*_present(cluster))
            for node in layout.NODES:
                _inside(node, "iptables-restore", "--noflush", stdin=rules)
            with seen:
                rounds += 1
                seen.notify_all()
            over.wait(_EVERY_S)

    def settled() -> None:
        with seen:
            # The round under way may have looked before the call.
            wanted = rounds + 2
            while rounds < wanted:
                assert thread.is_alive(), "the policies are not followed any more"
                seen.wait(_EVERY_S)

    thread = threading.Thread(target=follow, daemon=True)
    # kube-proxy needs it as well, for a Service whose pod is on the same node.
    before = {node: _inside(node, "cat", _BRIDGED).strip() for node in layout.NODES}
    for node in layout.NODES:
        _inside(node, "sh", "-c", f"echo 1 > {_BRIDGED}")
        _inside(node, "iptables", "-N", _CHAIN)
        _inside(node, "iptables", "-I", "FORWARD", "1", "-j", _CHAIN)
    thread.start()
    try:
        yield settled
    finally:
        over.set()
        thread.join()
        for node, bridged in before.items():
            _open(node)
            _inside(node, "sh", "-c", f"echo {bridged} > {_BRIDGED}")


def _inside(node: Node, *command: str, stdin: str | None = None) -> str:
    """What a command prints in the network of a node."""
    return run("nsenter", f"--net={node.network}", *command, stdin=stdin)


def _open(node: Node) -> None:
    with contextlib.suppress(CommandFailed):
        _inside(node, "iptables", "-D", "FORWARD", "-j", _CHAIN)
    lines = _inside(node, "iptables", "-S").splitlines()
    chains = [line.split()[1] for line in lines if line.startswith(f"-N {_CHAIN}")]
    for option in ("-F", "-X"):
        # The first one refers to the others.
        for chain in sorted(chains):
            _inside(node, "iptables", option, chain)


def _present(cluster: Cluster) -> tuple[Network, list[_Pod]]:
    """Return what policies there are, and for which pods."""
    text = cluster.kubectl("get", "namespaces,pods,networkpolicies", "-A", "-o", "json")
    found: dict[str, list[dict[str, Any]]] = {"Namespace": [], "Pod": [], "NetworkPolicy": []}
    for item in json.loads(text)["items"]:
        found[item["kind"]].append(item)
    names = {n["metadata"]["name"]: n["metadata"].get("labels") or {} for n in found["Namespace"]}
    policies: dict[str, tuple[Policy, ...]] = {}
    for policy in found["NetworkPolicy"]:
        space = policy["metadata"]["namespace"]
        policies[space] = (*policies.get(space, ()), policy)
    pods = [
        _Pod(pod["status"]["podIP"], Peer(pod["metadata"]["namespace"], _labels(pod)))
        for pod in found["Pod"]
        if pod["status"].get("podIP")
        and pod["status"]["phase"] in ("Pending", "Running")
        # It may go on being listed after its namespace is gone.
        and pod["metadata"]["namespace"] in names
    ]
    # The name server of the test cluster is no pod, and stands for one.
    names_server = _Pod(layout.HOST_IP, Peer("kube-system", {"k8s-app": "kube-dns"}))
    return Network(names, policies), [*pods, names_server]


def _labels(pod: dict[str, Any]) -> dict[str, str]:
    return dict(pod["metadata"].get("labels") or {})


def _rules(network: Network, pods: list[_Pod]) -> str:
    """Return the rules as iptables-restore reads them: a chain for each pod and direction, which
    is left by what is let through."""
    chains, jumps, rules = [f":{_CHAIN} - [0:0]"], [], []
    for number, pod in enumerate(pods):
        for direction, side, own, others in _SIDES:
            wanted = network.rules(pod.peer, direction)
            if wanted is None:
                continue
            chain = f"{_CHAIN}-{direction[0]}{number}"
            chains.append(f":{chain} - [0:0]")
            jumps.append(f"-A {_CHAIN} {own} {pod.ip} -j {chain}")
            for rule in wanted:
                peers = rule.get(side)
                ips = [p.ip for p in pods if network.is_one_of(peers, p.peer, pod.peer.namespace)]
                for place in [""] if peers is None else [f"{others} {ip} " for ip in ips]:
                    rules += [f"-A {chain} {place}{port}-j RETURN" for port in _ports(rule)]
            rules.append(f"-A {chain} {_REFUSE}")
    answers = f"-A {_CHAIN} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"
    return "\n".join(["*filter", *chains, answers, *jumps, *rules, "COMMIT", ""])


def _ports(rule: Policy) -> list[str]:
    if "ports" not in rule:
        return [""]
    named = [(str(p.get("protocol", "TCP")).lower(), p["port"]) for p in rule["ports"]]
    return [f"-p {protocol} --dport {port} " for protocol, port in named]
