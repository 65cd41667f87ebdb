"""The bearer token that a storage gateway is called with: in a file, checked on every call."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

_log = logging.getLogger(__name__)

METADATA_KEY = "authorization"
# The kubelet asks for the health of the pod and knows no token.
_HEALTH = "/grpc.health.v1.Health/"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call with that token."""
    return ((METADATA_KEY, f"Bearer {token}"),)


class TokenFile:
    """A token in a file; a new one counts as soon as the file has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] = ()
        self._token = b""

    def accepts(self, authorization: str | None) -> bool:
        """Say whether the value of an authorization header carries the token, in a time that
        does not tell how much of it is right. While the file has no token, nothing does."""
        token = self._current()
        given = (authorization or "").encode(errors="replace")
        return hmac.compare_digest(given, b"Bearer " + token) and bool(token)

    def check(self) -> None:
        """Raise OSError or ValueError, naming the file, unless there is a token in it."""
        if not self._path.read_bytes().strip():
            raise ValueError(f"{self._path} is empty; write the token into it")

    def _current(self) -> bytes:
        try:
            seen = self._path.stat()
            # Kubernetes replaces a mounted secret by another file, which may be as old and long.
            stamp = (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, seen.st_size)
            if stamp != self._stamp:
                self._token = self._path.read_bytes().strip()
                self._stamp = stamp
        except OSError as error:
            _log.error("no call is answered: %s", error)
            return b""
        return self._token


class TokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # no generic at run time
    """Ends every call without the right token as UNAUTHENTICATED, before it is looked at.

    Only the health service may be called without any; a wrong token is refused there too.
    """

    def __init__(self, token: TokenFile) -> None:
        self._token = token

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a call if it may be made."""
        given = [
            value
            for key, value in handler_call_details.invocation_metadata
            if key == METADATA_KEY and isinstance(value, str)
        ]
        is_health = str(handler_call_details.method).startswith(_HEALTH)
        if (is_health and not given) or self._token.accepts(given[0] if given else None):
            return await continuation(handler_call_details)
        # On the wire a call of any kind is a stream both ways.
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(requests: Any, context: Any) -> None:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED,
        f"the call carries no valid token; send `{METADATA_KEY}: Bearer TOKEN`",
    )
