"""Access on one machine: who can open the socket is its owner, and workers show their pod's token.

The token of a pod is its uid with a keyed digest, so nothing has to be remembered of it: the key,
which lies in the state folder, tells a later controller which tokens an earlier one gave out.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from controller.access.callers import Action, Caller, PodIdentity, Verdict
from controller.errors import Unauthenticated

TOKEN_FILE = "token"
_KEY_FILE = "pods.key"
_KEY_BYTES = 32
OWNER = Caller("the owner of this service")


class PodTokens:
    """Makes the tokens of pods and tells whose they are."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @staticmethod
    def of(home: Path) -> PodTokens:
        """Return the tokens of a state folder, whose key is made if there is none. For the owner
        of the folder (StateLock). Raises OSError."""
        path = home / _KEY_FILE
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            key = b""
        if len(key) != _KEY_BYTES:
            key = secrets.token_bytes(_KEY_BYTES)
            write_private(path, key)
        return PodTokens(key)

    def token(self, uid: str) -> str:
        """Return the token of a pod."""
        return f"{uid}.{hmac.new(self._key, uid.encode(), hashlib.sha256).hexdigest()}"

    def uid(self, token: str) -> str | None:
        """Return the uid of the pod whose token this is, None if it is nobody's."""
        uid, _, _ = token.rpartition(".")
        good = hmac.compare_digest(self.token(uid).encode(), token.encode(errors="replace"))
        return uid if good and uid else None


class LocalAccess:
    """The Access of the local backend. The socket lets in nobody but its owner."""

    def __init__(self, tokens: PodTokens) -> None:
        self._tokens = tokens

    async def caller(self, token: str) -> Caller:
        """Return the owner."""
        return OWNER

    async def pod(self, token: str) -> PodIdentity:
        """Return the pod that the token was given to."""
        uid = self._tokens.uid(token)
        if uid is None:
            raise Unauthenticated(
                "the worker shows no token of this service; only the agents of its pods may call"
            )
        return PodIdentity(uid)

    async def verdict(self, caller: Caller, action: Action) -> Verdict:
        """The owner may do everything."""
        return Verdict(True)


def write_private(path: Path, data: bytes) -> None:
    """Put a file in place at once and whole, readable for its owner alone."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)
        file.write(data)
        file.flush()
        os.fsync(fd)
    fresh.replace(path)
