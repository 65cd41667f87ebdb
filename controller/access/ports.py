"""What the guard asks. Adapters: controller.kubernetes.access, controller.local.access.

Every method may raise ClusterUnavailable, which ends the call: nobody is let in unchecked.
"""

from __future__ import annotations

from typing import Protocol

from controller.access.callers import Action, Caller, PodIdentity, Verdict


class Access(Protocol):
    """Knows callers by their tokens, and what they may do."""

    async def caller(self, token: str) -> Caller:
        """Return whose token this is; "" is none. Raises Unauthenticated."""
        ...

    async def pod(self, token: str) -> PodIdentity:
        """Return the pod that the token of a worker was given to. Raises Unauthenticated."""
        ...

    async def verdict(self, caller: Caller, action: Action) -> Verdict:
        """Say whether the caller may do that."""
        ...
