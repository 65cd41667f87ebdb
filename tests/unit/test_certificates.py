"""Certificates: made, checked, shown to whoever connects, and exchanged while the server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from controller.access.certificates import (
    Authority,
    CertificateSet,
    Shown,
    make,
    make_authority,
)

NOW = datetime.now(UTC)
AUTHORITY = make_authority("test", now=NOW, days=2)
BOUND_S = 60.0


def made(
    *names: str, authority: Authority = AUTHORITY, now: datetime = NOW, days: int = 1
) -> CertificateSet:
    return make(authority, names or ("service.test",), now=now, days=days)


@asynccontextmanager
async def served(shown: Shown) -> AsyncIterator[int]:
    server = grpc.aio.server()
    healthy = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    port = server.add_secure_port("127.0.0.1:0", shown.credentials())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def call(port: int, authority: bytes, *, name: str = "service.test") -> str:
    """Return "" if a new connection can be used, else why not."""
    options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc.ssl_channel_credentials(authority)
    target = f"127.0.0.1:{port}"
    async with grpc.aio.secure_channel(target, credentials, options=options) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=BOUND_S
            )
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
    return ""


async def test_a_new_certificate_is_shown_to_who_connects_next() -> None:
    shown = Shown(made())
    other = make_authority("other", now=NOW, days=2)
    async with served(shown) as port:
        assert await call(port, AUTHORITY.certificate) == ""
        assert "VERIFY_FAILED" in await call(port, other.certificate)
        assert shown.set(made(authority=other))
        assert await call(port, other.certificate) == ""
        assert "VERIFY_FAILED" in await call(port, AUTHORITY.certificate)


async def test_a_certificate_that_cannot_be_used_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shown = Shown(made())
    async with served(shown) as port:
        assert not shown.set(CertificateSet(made().certificate, made().key, AUTHORITY.certificate))
        assert "tls.key does not fit tls.crt" in caplog.text
        assert await call(port, AUTHORITY.certificate) == ""


async def test_names_and_time_are_checked_by_clients() -> None:
    async with served(Shown(made("service.test", "::1"))) as port:
        assert "Hostname" in await call(port, AUTHORITY.certificate, name="service.else")
    old = made(now=NOW - timedelta(days=30))
    async with served(Shown(old)) as port:
        assert "VERIFY_FAILED" in await call(port, AUTHORITY.certificate)


def test_how_long_it_is_good() -> None:
    assert made(days=7).good_until == (NOW + timedelta(days=7)).replace(microsecond=0)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param(CertificateSet(b"", b"", b""), "tls.crt holds no PEM", id="nothing"),
        pytest.param(
            CertificateSet(made().certificate, b"x", AUTHORITY.certificate), "tls.key", id="no key"
        ),
        pytest.param(CertificateSet(made().certificate, made().key), "ca.crt", id="no authority"),
    ],
)
def test_a_server_does_not_begin_with_a_bad_one(bad: CertificateSet, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Shown(bad)


def test_a_key_is_not_in_what_is_printed() -> None:
    found = made()
    assert "PRIVATE" not in f"{found!r}{AUTHORITY!r}"
