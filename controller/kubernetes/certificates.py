"""The certificate that the controller shows: a Secret of its namespace, watched.

Whoever brings the Secret (cert-manager, an administrator) may replace it at any time. When there
is none, the controller makes one with an authority of its own, and renews the certificate by it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from controller.access.certificates import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    Authority,
    CertificateSet,
    Shown,
    make,
    make_authority,
)
from controller.errors import ClusterRefused, TaasError
from controller.kubernetes.background import Background
from controller.kubernetes.client import MERGE, Api, Document
from controller.kubernetes.replies import Missing, Taken
from controller.kubernetes.watch import Collection, Item

_log = logging.getLogger(__name__)

_AUTHORITY_KEY = "ca.key"
# On a Secret that the controller made and may renew.
_OWN = "taas.dev/made-by-controller"
_AUTHORITY_DAYS, _CERTIFICATE_DAYS = 3650, 365
_RENEW_BEFORE = timedelta(days=30)
_LOOK_S = 3600.0
_NAMED = (CERTIFICATE, KEY, AUTHORITY)


def service_names(service: str, namespace: str, more: Sequence[str] = ()) -> tuple[str, ...]:
    """Return by which names the Service is called, a port-forward included."""
    name = f"{service}.{namespace}"
    inside = (f"{name}.svc", name, f"{name}.svc.cluster.local", service)
    return (*inside, "localhost", "127.0.0.1", "::1", *more)


class ServerCertificate:
    """The certificate of a Secret, kept up to date while the `async with` block runs. Entering
    waits for the API server; it raises ClusterRefused for a Secret that cannot be used."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        secret: str,
        *,
        names: Sequence[str],
        clock: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._namespace, self._secret = namespace, secret
        self._names = names
        self._clock = clock
        self._background = Background()
        self._shown: Shown | None = None
        self._seen: Collection[Document] = Collection(
            api,
            self._path,
            read=lambda document: document,
            changed=self._changed,
            selectors={"fieldSelector": f"metadata.name={secret}"},
        )

    async def __aenter__(self) -> ServerCertificate:
        await self._ensure()
        await self._seen.open(self._background)
        try:
            item = self._seen.get(self._namespace, self._secret)
            try:
                self._shown = Shown(certificates_of(item.value if item else {}))
            except ValueError as error:
                raise ClusterRefused(f"Secret {self._secret}: {error}") from error
            self._background.start(self._renew())
        except BaseException:
            await self._background.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._background.aclose()

    @property
    def shown(self) -> Shown:
        """What a listener shows."""
        assert self._shown is not None, "only inside the block"
        return self._shown

    @property
    def authority(self) -> str:
        """Whom workers and clients have to believe, as PEM."""
        return self.shown.current.authority.decode()

    async def _ensure(self) -> None:
        """Make the Secret if there is none."""
        try:
            await self._api.call("GET", f"{self._path}/{self._secret}")
            return
        except Missing:
            pass
        authority = make_authority(
            f"taas {self._namespace}", now=self._clock(), days=_AUTHORITY_DAYS
        )
        document = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {
                "name": self._secret,
                "namespace": self._namespace,
                "annotations": {_OWN: "true"},
            },
            "data": _encoded(self._made(authority))
            | {_AUTHORITY_KEY: base64.b64encode(authority.key).decode()},
        }
        with suppress(Taken):
            await self._api.call("POST", self._path, body=document)
            _log.info("made Secret %s, which certifies this service", self._secret)

    def _made(self, authority: Authority) -> CertificateSet:
        return make(authority, self._names, now=self._clock(), days=_CERTIFICATE_DAYS)

    def _changed(self, before: Item[Document] | None, after: Item[Document] | None) -> None:
        if self._shown is None or after is None:
            return
        try:
            self._shown.set(certificates_of(after.value))
        except ValueError as error:
            _log.error("Secret %s: %s; the certificate from before stays", self._secret, error)

    async def _renew(self) -> None:
        """Renew a certificate that the controller has made, in time."""
        while True:
            item = self._seen.get(self._namespace, self._secret)
            if item is not None:
                try:
                    if self._is_due(item.value):
                        await self._replace(item.value)
                except (TaasError, ValueError) as error:
                    _log.error("Secret %s: cannot be renewed: %s", self._secret, error)
            await asyncio.sleep(_LOOK_S)

    def _is_due(self, secret: Document) -> bool:
        """Say whether a certificate expires soon that is the controller's to renew: somebody else
        may have taken the Secret over."""
        annotations = secret["metadata"].get("annotations") or {}
        if annotations.get(_OWN) != "true" or not _authority_of(secret).fits():
            return False
        return self.shown.current.good_until - self._clock() < _RENEW_BEFORE

    async def _replace(self, secret: Document) -> None:
        body = {
            "metadata": {"resourceVersion": secret["metadata"]["resourceVersion"]},
            "data": _encoded(self._made(_authority_of(secret))),
        }
        path = f"{self._path}/{self._secret}"
        self._seen.put(await self._api.call("PATCH", path, body=body, content_type=MERGE))


def _authority_of(secret: Document) -> Authority:
    """Return who signs, without a key if that is not the controller."""
    data = secret.get("data") or {}
    key = _decoded(data, _AUTHORITY_KEY) if data.get(_AUTHORITY_KEY) else b""
    return Authority(_decoded(data, AUTHORITY), key)


def certificates_of(secret: Document) -> CertificateSet:
    """Return the certificates of a Secret. Raises ValueError that names what it lacks."""
    data: dict[str, Any] = secret.get("data") or {}
    found = CertificateSet(*(_decoded(data, name) for name in _NAMED))
    found.check()
    return found


def _decoded(data: dict[str, Any], name: str) -> bytes:
    if not data.get(name):
        raise ValueError(
            f"it has no {name}; {AUTHORITY} is the certificate of the authority that signed "
            f"{CERTIFICATE}, {KEY} is its key"
        )
    try:
        return base64.b64decode(data[name], validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"{name} is no base64: {error}") from error


def _encoded(certificates: CertificateSet) -> dict[str, str]:
    values = (certificates.certificate, certificates.key, certificates.authority)
    pairs = zip(_NAMED, values, strict=True)
    return {name: base64.b64encode(value).decode() for name, value in pairs}
