"""Who calls and what they may do, as the cluster's own authenticators and RBAC have it.

TokenReview says whose a token is, SubjectAccessReview what he may do. Both answers are kept for a
short while; while the API server is away and nothing is remembered, nobody is let in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.access.callers import Action, Caller, PodIdentity, Verdict
from controller.access.memory import Memory
from controller.errors import ClusterRefused, ClusterUnavailable, Unauthenticated
from controller.kubernetes.client import Api, Document
from controller.render import TOKEN_AUDIENCE

_TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_GROUP, _RESOURCE = "taas.dev", "trainingjobs"
# Of the tokens that Kubernetes gives to pods.
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_SERVICE_ACCOUNT = "system:serviceaccount:"
# No token of Kubernetes comes near it.
_MOST_TOKEN_CHARS = 8192
_MOST_TOKENS = 10_000
_MOST_VERDICTS = 50_000
# Reviews under way at once; the rest of the controller has the API server to itself beside them.
_AT_ONCE = 16
# All workers of a large installation may come together, when the controller was started again.
_WAITING = 2000


@dataclass(frozen=True, slots=True)
class AccessTimes:
    """Seconds for which answers are kept: a token that is good, one that is not, a right that is
    there, one that is not. As long a right or a token that was taken away goes on to work."""

    known_s: float = 60.0
    unknown_s: float = 5.0
    allowed_s: float = 30.0
    denied_s: float = 5.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """A token and what it has to be for. The token never shows in a log or a traceback."""

    token: _Secret
    audiences: tuple[str, ...]


class _Secret(str):
    """A text that does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<token {hashlib.sha256(self.encode(errors='replace')).hexdigest()[:8]}>"


@dataclass(frozen=True, slots=True)
class _Unknown:
    """Why a token is nobody's."""

    why: str


class KubernetesAccess:
    """The Access of the Kubernetes backend. `audiences`: a caller's token must be for one."""

    def __init__(
        self, api: Api, audiences: tuple[str, ...], times: AccessTimes | None = None
    ) -> None:
        times = times or AccessTimes()
        self._api = api
        self._audiences = audiences
        self._users: Memory[_Asked, Caller | _Unknown] = Memory(
            self._review,
            lambda found: times.unknown_s if isinstance(found, _Unknown) else times.known_s,
            most=_MOST_TOKENS,
            at_once=_AT_ONCE,
            waiting=_WAITING,
        )
        self._verdicts: Memory[tuple[Caller, Action], Verdict] = Memory(
            self._judge,
            lambda verdict: times.allowed_s if verdict.allowed else times.denied_s,
            most=_MOST_VERDICTS,
            at_once=_AT_ONCE,
            waiting=_WAITING,
        )

    async def caller(self, token: str) -> Caller:
        """Return whose token this is."""
        wanted = " or ".join(self._audiences)
        how = f"make one with: kubectl create token SERVICEACCOUNT --audience {self._audiences[0]}"
        if not token:
            raise Unauthenticated(
                f"the call carries no token; set TAAS_TOKEN_FILE, or --token-file, to a file with "
                f"one for the audience {wanted}; {how}"
            )
        found = await self._user(token, self._audiences)
        if isinstance(found, _Unknown):
            raise Unauthenticated(
                f"the token is not accepted ({found.why}): it has expired, or is not for the "
                f"audience {wanted}; {how}"
            )
        return found

    async def pod(self, token: str) -> PodIdentity:
        """Return the pod that the token was given to by its kubelet."""
        found = await self._user(token, (TOKEN_AUDIENCE,)) if token else _Unknown("there is none")
        if isinstance(found, _Unknown):
            raise Unauthenticated(f"the worker's token is not accepted ({found.why})")
        extra = dict(found.extra)
        uid = "".join(extra.get(_POD_UID, ()))
        namespace, _, _ = found.name.removeprefix(_SERVICE_ACCOUNT).partition(":")
        if not uid or not extra.get(_POD_NAME) or not found.name.startswith(_SERVICE_ACCOUNT):
            raise Unauthenticated(f"the token of {found.name} is not bound to a pod")
        return PodIdentity(uid, namespace)

    async def verdict(self, caller: Caller, action: Action) -> Verdict:
        """Say whether the caller may do that."""
        return await self._verdicts.get((caller, action))

    async def _user(self, token: str, audiences: tuple[str, ...]) -> Caller | _Unknown:
        if len(token) > _MOST_TOKEN_CHARS:
            return _Unknown("it is too long")
        return await self._users.get(_Asked(_Secret(token), audiences))

    async def _review(self, asked: _Asked) -> Caller | _Unknown:
        spec = {"token": str(asked.token), "audiences": list(asked.audiences)}
        status = await self._ask(_TOKEN_REVIEWS, "TokenReview", spec)
        audiences = status.get("audiences") or ()
        if status.get("authenticated") is not True:
            return _Unknown(str(status.get("error") or "nobody knows it")[:200])
        # An authenticator that knows no audiences says none: the token may be for anybody.
        if not set(asked.audiences) & set(audiences):
            return _Unknown("it is for another audience")
        return _caller(status.get("user") or {})

    async def _judge(self, question: tuple[Caller, Action]) -> Verdict:
        caller, action = question
        spec = {
            "user": caller.name,
            "uid": caller.uid,
            "groups": list(caller.groups),
            "extra": {key: list(values) for key, values in caller.extra},
            "resourceAttributes": {
                "group": _GROUP,
                "resource": _RESOURCE,
                "subresource": action.subresource,
                "verb": action.verb,
                "namespace": action.namespace,
                "name": action.name,
            },
        }
        status = await self._ask(_ACCESS_REVIEWS, "SubjectAccessReview", spec)
        allowed = status.get("allowed") is True and not status.get("denied")
        reason = "" if allowed else str(status.get("reason") or status.get("evaluationError") or "")
        return Verdict(allowed, reason[:200])

    async def _ask(self, path: str, kind: str, spec: Mapping[str, Any]) -> Document:
        group = path.removeprefix("/apis/").rpartition("/")[0]
        try:
            reply = await self._api.call(
                "POST", path, body={"apiVersion": group, "kind": kind, "spec": spec}
            )
        except ClusterRefused as error:
            # That is about the controller, not about the caller.
            raise ClusterUnavailable(f"callers cannot be checked: {error}") from error
        status = reply.get("status")
        if not isinstance(status, dict):
            raise ClusterUnavailable(f"callers cannot be checked: {kind} has no status")
        return status


def _caller(user: Document) -> Caller:
    extra = user.get("extra") or {}
    return Caller(
        name=str(user.get("username") or ""),
        uid=str(user.get("uid") or ""),
        groups=tuple(user.get("groups") or ()),
        extra=tuple(sorted((key, tuple(values or ())) for key, values in extra.items())),
    )
