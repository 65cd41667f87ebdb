"""The Secret of the service's certificate on a real API server: made, watched, renewed."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from controller.access.certificates import CertificateSet, make, make_authority
from controller.errors import ClusterRefused
from controller.kubernetes.certificates import ServerCertificate, service_names
from controller.kubernetes.client import Api, connected
from tests.cluster.apiserver import ApiServer
from tests.contracts.worlds import eventually

pytestmark = pytest.mark.cluster
NOW = datetime.now(UTC)
NAME = "taas-test-tls"


@pytest.fixture
async def api(api_server: ApiServer) -> AsyncIterator[Api]:
    api_server.kubectl("delete", "secret", NAME, "--ignore-not-found")
    async with connected(api_server.kubeconfig) as opened:
        yield opened


def certificate(api: Api, *, ahead: timedelta = timedelta(0)) -> ServerCertificate:
    names = service_names("taas", "default")
    return ServerCertificate(api, "default", NAME, names=names, clock=lambda: NOW + ahead)


def brought(server: ApiServer, made: CertificateSet, *, verb: str = "apply") -> None:
    pairs = {"tls.crt": made.certificate, "tls.key": made.key, "ca.crt": made.authority}
    data = {key: base64.b64encode(value).decode() for key, value in pairs.items()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": NAME},
        "data": data,
    }
    server.kubectl(verb, "-f", "-", stdin=json.dumps(secret))


async def test_one_is_made_once_and_found_again(api: Api) -> None:
    async with certificate(api) as first:
        shown = first.shown.current
        assert shown.good_until > NOW + timedelta(days=300)
    async with certificate(api) as second:
        assert second.shown.current == shown
        assert second.authority == shown.authority.decode()


async def test_one_that_somebody_brings_is_used_and_a_new_one_at_once(
    api: Api, api_server: ApiServer
) -> None:
    authority = make_authority("theirs", now=NOW, days=9)
    first, second = (make(authority, ["taas.default.svc"], now=NOW, days=d) for d in (2, 3))
    brought(api_server, first)
    async with certificate(api, ahead=timedelta(days=1)) as used:
        assert used.shown.current == first
        brought(api_server, second)
        await eventually(lambda: used.shown.current == second)
        # One that cannot be used changes nothing; the next good one does.
        brought(api_server, CertificateSet(first.certificate, second.key, authority.certificate))
        brought(api_server, first)
        await eventually(lambda: used.shown.current == first)


async def test_its_own_is_renewed_in_time_by_the_same_authority(api: Api) -> None:
    async with certificate(api) as first:
        before = first.shown.current
    async with certificate(api, ahead=timedelta(days=340)) as later:
        await eventually(lambda: later.shown.current != before)
        assert later.shown.current.authority == before.authority
        assert later.shown.current.good_until > NOW + timedelta(days=700)


async def test_another_owners_is_never_renewed(api: Api, api_server: ApiServer) -> None:
    async with certificate(api):
        pass
    # As cert-manager does when it takes the Secret over: its own three keys, the rest stays.
    authority = make_authority("theirs", now=NOW, days=9)
    theirs = make(authority, ["taas.default.svc"], now=NOW, days=2)
    pairs = {"tls.crt": theirs.certificate, "tls.key": theirs.key, "ca.crt": theirs.authority}
    data = {key: base64.b64encode(value).decode() for key, value in pairs.items()}
    api_server.kubectl("patch", "secret", NAME, "-p", json.dumps({"data": data}))
    async with certificate(api) as used:
        secret = await api.call("GET", f"/api/v1/namespaces/default/secrets/{NAME}")
        assert not used._is_due(secret)
        assert used.shown.current == theirs


async def test_one_that_cannot_be_used_ends_the_start(api: Api, api_server: ApiServer) -> None:
    authority = make_authority("theirs", now=NOW, days=9)
    made = make(authority, ["taas.default.svc"], now=NOW, days=2)
    brought(api_server, CertificateSet(made.certificate, made.key, b""))
    with pytest.raises(ClusterRefused, match=f"Secret {NAME}: it has no ca.crt"):
        async with certificate(api):
            pass
