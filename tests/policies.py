"""What NetworkPolicies let through, as Kubernetes defines it. Pure; for matchLabels and ports, of
which the policies of this project are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """A pod; without a namespace something that is no pod, such as the API server."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Network:
    """Namespaces by name with their labels, and the policies in them."""

    namespaces: Mapping[str, Mapping[str, str]]
    policies: Mapping[str, tuple[Policy, ...]]

    def lets(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """Say whether a connection comes about: both ends must let it."""
        return self._let_by(source, "Egress", "to", target, port, protocol) and self._let_by(
            target, "Ingress", "from", source, port, protocol
        )

    def rules(self, pod: Peer, direction: str) -> list[Policy] | None:
        """Return the rules for "Ingress" or "Egress" of a pod; None if no policy selects it, so
        that it is open."""
        chosen = [
            policy["spec"]
            for policy in self.policies.get(pod.namespace, ())
            if direction in policy["spec"]["policyTypes"]
            and _selects(policy["spec"]["podSelector"], pod.labels)
        ]
        if not chosen:
            return None
        return [rule for spec in chosen for rule in spec.get(direction.lower(), ())]

    def is_one_of(self, peers: Iterable[Policy] | None, other: Peer, home: str) -> bool:
        """Say whether the peers of a rule, in a policy of namespace `home`, are met by a pod."""
        if peers is None:
            return True
        return bool(other.namespace) and any(self._matches(p, other, home) for p in peers)

    def _let_by(
        self, pod: Peer, direction: str, side: str, other: Peer, port: int, protocol: str
    ) -> bool:
        rules = self.rules(pod, direction)
        return rules is None or any(
            self.is_one_of(rule.get(side), other, pod.namespace)
            and _has_port(rule.get("ports"), port, protocol)
            for rule in rules
        )

    def _matches(self, peer: Policy, other: Peer, home: str) -> bool:
        if "namespaceSelector" in peer:
            labels = self.namespaces[other.namespace]
            # Every namespace has it.
            labels = {**labels, "kubernetes.io/metadata.name": other.namespace}
            there = _selects(peer["namespaceSelector"], labels)
        else:
            there = other.namespace == home
        return there and _selects(peer.get("podSelector", {}), other.labels)


def _selects(selector: Policy, labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, "only matchLabels are understood here"
    return selector.get("matchLabels", {}).items() <= labels.items()


def _has_port(ports: Iterable[Policy] | None, port: int, protocol: str) -> bool:
    if ports is None:
        return True
    return any(p["port"] == port and p.get("protocol", "TCP") == protocol for p in ports)
