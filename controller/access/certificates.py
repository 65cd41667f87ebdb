"""Certificates: what is made when nobody brings any, and what a server shows, always the newest.

A set is the content of a Secret of type kubernetes.io/tls: `tls.crt`, `tls.key`, and `ca.crt`,
the certificates by which others know it.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_log = logging.getLogger(__name__)

CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
# Clocks of a cluster differ a little.
_SKEW = timedelta(hours=1)
_MOST_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class CertificateSet:
    """A certificate with its chain, its key, and whom to believe to know it, all as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes = b""

    def check(self) -> None:
        """Raise ValueError unless certificate and key can be used together, and are believed."""
        for name, value in ((CERTIFICATE, self.certificate), (AUTHORITY, self.authority)):
            try:
                x509.load_pem_x509_certificates(value)
            except ValueError as error:
                raise ValueError(f"{name} holds no PEM certificate: {error}") from error
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder) / "pair.pem"
            pair.touch(mode=0o600)
            pair.write_bytes(self.certificate + b"\n" + self.key)
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair)
            except ssl.SSLError as error:
                raise ValueError(f"{KEY} does not fit {CERTIFICATE}: {error}") from error

    @property
    def good_until(self) -> datetime:
        """When the certificate expires."""
        return x509.load_pem_x509_certificates(self.certificate)[0].not_valid_after_utc


@dataclass(frozen=True, slots=True)
class Authority:
    """One who vouches for certificates: his own certificate and key as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    def fits(self) -> bool:
        """Say whether the key is that of the certificate."""
        try:
            public = x509.load_pem_x509_certificate(self.certificate).public_key()
            private = serialization.load_pem_private_key(self.key, password=None)
        except ValueError:
            return False
        return private.public_key() == public


def make_authority(name: str, *, now: datetime, days: int) -> Authority:
    """Return a new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = (
        _builder(subject, subject, key, now=now, days=days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    return Authority(_pem(builder.sign(key, hashes.SHA256())), _secret(key))


def make(authority: Authority, names: Sequence[str], *, now: datetime, days: int) -> CertificateSet:
    """Return a certificate of a server with those host names and addresses."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_subject(names[0]), issuer.subject, key, now=now, days=days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        )
    )
    certificate = builder.sign(issuer_key, hashes.SHA256())
    return CertificateSet(_pem(certificate), _secret(key), authority.certificate)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_MOST_NAME_CHARS])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _secret(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Shown:
    """The certificate that a server shows; whoever connects next sees what was set last."""

    def __init__(self, first: CertificateSet) -> None:
        """Begin with a set. Raises ValueError for one that cannot be used."""
        first.check()
        self.current = first
        self._newer: grpc.ServerCertificateConfiguration | None = None

    def set(self, newer: CertificateSet) -> bool:
        """Show another set from now on; one that cannot be used is logged and passed over."""
        if newer == self.current:
            return False
        try:
            newer.check()
        except ValueError as error:
            _log.error("the new certificate is not used: %s", error)
            return False
        self.current, self._newer = newer, _configuration(newer)
        _log.info("a new certificate is in use; it is good until %s", newer.good_until)
        return True

    def credentials(self) -> grpc.ServerCredentials:
        """Return what one listener takes; gRPC asks for news at each connection."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self.current),
            self._news,  # type: ignore[arg-type]  # the stubs leave out that None means no news
        )

    def _news(self) -> grpc.ServerCertificateConfiguration | None:
        newer, self._newer = self._newer, None
        return newer


def _configuration(certificates: CertificateSet) -> grpc.ServerCertificateConfiguration:
    pair = (certificates.key, certificates.certificate)
    return grpc.ssl_server_certificate_configuration([pair])
