"""How a client shows who it is and knows the service: tokens, certificates, the open channel.

A service on this machine is reached by a socket that only its owner can open. Over a network
nothing goes in the clear: always TLS, and the token only inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from taas.errors import InvalidRequest

ENV_TOKEN = "TAAS_TOKEN"
ENV_TOKEN_FILE = "TAAS_TOKEN_FILE"
ENV_CA_FILE = "TAAS_CA_FILE"
ENV_SERVER_NAME = "TAAS_SERVER_NAME"


@dataclass(frozen=True, slots=True)
class Access:
    """How to call a service over a network; every part may be left out.

    token_file: holds the token to show; it is read again for each call, so it may be renewed.
    token: the token itself, where there is no file.
    ca_file: PEM certificates of whoever signs the service's certificate; by default those that
    gRPC brings. server_name: the name in that certificate, if the service is called by another.
    """

    token_file: Path | None = None
    token: str = field(default="", repr=False)
    ca_file: Path | None = None
    server_name: str = ""

    @staticmethod
    def of(
        env: Mapping[str, str], *, token_file: str = "", ca_file: str = "", server_name: str = ""
    ) -> Access:
        """Return what was given, else what the environment says."""
        token = token_file or env.get(ENV_TOKEN_FILE, "")
        ca = ca_file or env.get(ENV_CA_FILE, "")
        return Access(
            token_file=Path(token).expanduser() if token else None,
            token=env.get(ENV_TOKEN, ""),
            ca_file=Path(ca).expanduser() if ca else None,
            server_name=server_name or env.get(ENV_SERVER_NAME, ""),
        )

    def channel(self, target: str, options: list[tuple[str, Any]]) -> grpc.Channel:
        """Return a channel to a target. Raises InvalidRequest for a file that cannot be read."""
        if target.startswith("unix:"):
            return grpc.insecure_channel(target, options=options)
        roots = _read(self.ca_file, ENV_CA_FILE).encode() if self.ca_file else None
        credentials = grpc.ssl_channel_credentials(roots)
        if self.shown_token():
            credentials = grpc.composite_channel_credentials(
                credentials, grpc.metadata_call_credentials(_Bearer(self))
            )
        if self.server_name:
            options = [*options, ("grpc.ssl_target_name_override", self.server_name)]
        return grpc.secure_channel(target, credentials, options=options)

    def shown_token(self) -> str:
        """Return the token as it is now, "" for none. Raises InvalidRequest."""
        if self.token_file is None:
            return self.token
        token = _read(self.token_file, ENV_TOKEN_FILE).strip()
        if not token or not token.isascii() or not token.isprintable():
            raise InvalidRequest.of(ENV_TOKEN_FILE, f"{self.token_file} holds no token")
        return token


class _Bearer(grpc.AuthMetadataPlugin):
    """Adds the token to a call."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def __call__(
        self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback
    ) -> None:
        try:
            token = self._access.shown_token()
        except InvalidRequest as error:
            callback((), error)
            return
        callback((("authorization", f"Bearer {token}"),), None)


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidRequest.of(what, f"{path} cannot be read: {why}") from error
