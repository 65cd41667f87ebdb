"""Reads what the local cluster needs out of a Pod manifest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.errors import ClusterRefused
from trainer.contract import ENV_WORKER_INDEX


@dataclass(frozen=True, slots=True)
class Container:
    """The one container of a pod: what to run with which environment, for which worker."""

    pod: str
    index: int
    command: tuple[str, ...]
    env: dict[str, str]


def container(manifest: Mapping[str, Any]) -> Container:
    """Return the container of a manifest. Raises ClusterRefused for what cannot run here.

    Variables whose value only a cluster knows (valueFrom) are left out.
    """
    try:
        name = str(manifest["metadata"]["name"])
        (raw,) = manifest["spec"]["containers"]
        command = tuple(str(word) for word in (*raw["command"], *raw.get("args", ())))
        env = {str(v["name"]): str(v["value"]) for v in raw.get("env", ()) if "value" in v}
        index = int(env[ENV_WORKER_INDEX])
    except (KeyError, TypeError, ValueError) as error:
        raise ClusterRefused(
            f"not a pod that can run on this machine ({error!r}): it needs metadata.name, one "
            f"container with a command, and {ENV_WORKER_INDEX} in its environment"
        ) from error
    if not command:
        raise ClusterRefused(f"pod {name}: spec.containers[0].command is empty")
    return Container(name, index, command, env)
