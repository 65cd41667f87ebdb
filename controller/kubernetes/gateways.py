"""The pods of storage gateways on the API server: made when needed, watched, never polled."""

from __future__ import annotations

import asyncio
import base64
import secrets
from contextlib import suppress
from datetime import UTC, datetime

from controller.access import certificates
from controller.gateway.connection import Gateway
from controller.gateway.pods import (
    AUTHORITY_KEY,
    CERTIFICATE_KEY,
    CLAIM_KEY,
    LABEL_REVISION,
    PRIVATE_KEY,
    SELECTOR,
    TOKEN_KEY,
    GatewaySettings,
    gateway_address,
    gateway_name,
    render_gateway,
    render_secret,
    revision,
)
from controller.gateway.pool import ClaimMissing
from controller.kubernetes import pod_documents
from controller.kubernetes.background import Background
from controller.kubernetes.client import Api, Document
from controller.kubernetes.replies import Missing, Taken
from controller.kubernetes.watch import Collection, Item
from controller.live import Signal

_KEYS = {TOKEN_KEY, CERTIFICATE_KEY, PRIVATE_KEY, AUTHORITY_KEY}
# The secret goes with its gateway, long before that.
_GOOD_FOR_DAYS = 3650


class KubernetesGatewayPods:
    """The GatewayPods of controller.gateway.pool; watches while its `async with` block runs."""

    def __init__(self, api: Api, settings: GatewaySettings, *, look_again_s: float = 30.0) -> None:
        """`look_again_s`: how often claim and pod are looked at while the pod does not change."""
        self._api = api
        self._settings = settings
        self._look_again_s = look_again_s
        self._background = Background()
        self._changed = Signal()
        self._pods: Collection[Document] = Collection(
            api,
            "/api/v1/pods",
            read=lambda document: document,
            changed=self._wake,
            selectors={"labelSelector": SELECTOR},
        )

    async def __aenter__(self) -> KubernetesGatewayPods:
        await self._pods.open(self._background)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._background.aclose()

    async def ensure(self, namespace: str, claim: str) -> Gateway:
        """Make the gateway unless it is there, and return it once its pod is ready. Raises
        ClaimMissing, also if the claim goes while its pod waits for it."""
        await self._check_claim(namespace, claim)
        uid, secret = await self._secret(namespace, claim)
        while True:
            seen = self._changed.version
            item = self._pods.get(namespace, gateway_name(claim))
            if item is None:
                await self._create(render_gateway(namespace, claim, self._settings, uid))
            elif self._is_stale(item.value, claim, uid):
                await self._delete_pod(namespace, claim)
            elif _is_ready(item.value):
                return Gateway(
                    gateway_address(item.value["status"]["podIP"]),
                    secret[TOKEN_KEY].decode(),
                    gateway_name(claim),
                    secret[AUTHORITY_KEY],
                )
            try:
                async with asyncio.timeout(self._look_again_s):
                    await self._changed.wait(seen)
            except TimeoutError:
                # That a claim is gone changes nothing about a pod that was never scheduled.
                await self._check_claim(namespace, claim)
                if item is not None and _is_left_alone(item.value):
                    await self._delete_pod(namespace, claim)

    async def trouble(self, namespace: str, claim: str) -> str:
        """Say why the gateway's pod is not ready."""
        item = self._pods.get(namespace, gateway_name(claim))
        if item is None:
            return "its pod does not exist yet"
        return pod_documents.trouble(item.value) or "its pod is not ready yet"

    async def delete(self, namespace: str, claim: str) -> None:
        """Remove the gateway's pod and its token, at once."""
        await self._delete_pod(namespace, claim)
        with suppress(Missing):
            path = f"{_secrets(namespace)}/{gateway_name(claim)}"
            await self._api.delete(path, grace_s=0)

    async def existing(self) -> tuple[tuple[str, str], ...]:
        """Return namespace and claim of every gateway that there is."""
        found = (item.value["metadata"] for item in self._pods.items())
        claims = ((m["namespace"], m.get("annotations", {}).get(CLAIM_KEY, "")) for m in found)
        return tuple(sorted((namespace, claim) for namespace, claim in claims if claim))

    def _wake(self, before: Item[Document] | None, after: Item[Document] | None) -> None:
        self._changed.set()

    def _is_stale(self, pod: Document, claim: str, secret_uid: str) -> bool:
        """Say whether a pod is to be replaced: ended, on a node that is lost, outdated, or with
        another token."""
        metadata = pod["metadata"]
        owners = {owner.get("uid") for owner in metadata.get("ownerReferences", ())}
        current = metadata.get("labels", {}).get(LABEL_REVISION) == revision(claim, self._settings)
        ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        over = ended or pod_documents.node_lost(pod)
        return not _is_leaving(pod) and (over or not current or secret_uid not in owners)

    async def _check_claim(self, namespace: str, claim: str) -> None:
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}"
        try:
            found = await self._api.call("GET", path)
        except Missing as error:
            raise ClaimMissing(
                f"there is no claim {claim!r} in namespace {namespace!r}; create it, or name "
                "another one in spec.storage.claimName"
            ) from error
        if "deletionTimestamp" in found["metadata"]:
            raise ClaimMissing(f"claim {claim!r} in namespace {namespace!r} is being deleted")

    async def _secret(self, namespace: str, claim: str) -> tuple[str, dict[str, bytes]]:
        """Return uid and content of the gateway's secret, made if there is none."""
        path = f"{_secrets(namespace)}/{gateway_name(claim)}"
        while True:
            try:
                found = await self._api.call("GET", path)
            except Missing:
                made = render_secret(namespace, claim, _content(gateway_name(claim)))
                with suppress(Taken):
                    await self._api.call("POST", _secrets(namespace), body=made)
                continue
            data = {key: base64.b64decode(value) for key, value in found["data"].items()}
            if data.keys() >= _KEYS:
                return found["metadata"]["uid"], data
            # Of a version that had no certificates.
            with suppress(Missing):
                await self._api.delete(path, grace_s=0)

    async def _create(self, pod: Document) -> None:
        with suppress(Taken):
            path = pod_documents.path(pod["metadata"]["namespace"])
            self._pods.put(await self._api.call("POST", path, body=pod))

    async def _delete_pod(self, namespace: str, claim: str) -> None:
        with suppress(Missing):
            path = pod_documents.path(namespace, gateway_name(claim))
            await self._api.delete(path, grace_s=0)


def _content(name: str) -> dict[str, bytes]:
    """Return what is secret between the controller and a new gateway of that name."""
    now = datetime.now(UTC)
    authority = certificates.make_authority(name, now=now, days=_GOOD_FOR_DAYS)
    made = certificates.make(authority, [name], now=now, days=_GOOD_FOR_DAYS)
    return {
        TOKEN_KEY: secrets.token_urlsafe(32).encode(),
        CERTIFICATE_KEY: made.certificate,
        PRIVATE_KEY: made.key,
        AUTHORITY_KEY: made.authority,
    }


def _secrets(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets"


def _is_leaving(pod: Document) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _is_left_alone(pod: Document) -> bool:
    """Say so of a pod that waits for its kubelet: to be ended, or to be begun with."""
    begun = "startTime" in (pod.get("status") or {})
    return _is_leaving(pod) or ("nodeName" in pod["spec"] and not begun)


def _is_ready(pod: Document) -> bool:
    if _is_leaving(pod):
        return False
    status = pod.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    return conditions.get("Ready") == "True" and bool(status.get("podIP"))
