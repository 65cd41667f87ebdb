"""Who calls and what is asked of the cluster about it: frozen values, and the caller at hand."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """A person or a program, as the cluster knows it. `extra` is what an authenticator adds."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """The pod whose token a worker shows. namespace: "" where there is only one tenant."""

    uid: str
    namespace: str = ""

    def is_of(self, namespace: str, uid: str) -> bool:
        """Say whether that pod of that namespace is this one."""
        return self.uid == uid and self.namespace in ("", namespace)


@dataclass(frozen=True, slots=True)
class Action:
    """What a call does to training jobs. namespace: "" is all of them; name: "" is none or any."""

    verb: str
    namespace: str
    name: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        what = "trainingjobs" + (f"/{self.subresource}" if self.subresource else "")
        one = f" {self.name!r}" if self.name else ""
        where = f"namespace {self.namespace!r}" if self.namespace else "all namespaces together"
        return f"{self.verb} {what}{one} in {where}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an action is allowed; reason is the cluster's, "" when it gives none."""

    allowed: bool
    reason: str = ""


# Who makes the call that is being served; set by the guard.
calling: ContextVar[Caller] = ContextVar("calling")
# The pod behind the stream that is being served; set by the guard, read by the workers' service.
worker_pod: ContextVar[PodIdentity] = ContextVar("worker_pod")
