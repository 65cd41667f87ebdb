"""What makes a pod pass the `restricted` Pod Security Standard. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Nobody's number in the images; files on the claims belong to it.
USER = 65532


def restricted(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pod's spec with nothing in it but its program's own rights: no root, no
    privileges, no writing to the image, no word of the cluster around it."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            # Changing the owner of every file takes minutes on a full claim.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **spec,
        "containers": [{**each, "securityContext": own_rights()} for each in spec["containers"]],
    }


def own_rights() -> dict[str, Any]:
    """Return the security context of a container of such a pod."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
