"""Merges a part of a pod template into a pod, as Kubernetes' strategic merge patch does. Pure.

Maps are merged key by key and null deletes. Of the lists that Kubernetes knows a key for, items
with the same key are merged and others appended; tolerations are appended; any other list takes
the place of what was there. `$patch: delete` and `$patch: replace` mean what they mean there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# patchMergeKey of the Kubernetes API, by the list's field.
MERGE_KEYS = {
    "claims": "name",
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "resourceClaims": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
# Kubernetes replaces these, but nobody who adds one wants to lose the others.
APPENDED = frozenset({"tolerations"})
DIRECTIVE = "$patch"


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base with the patch merged into it. Neither is changed."""
    if patch.get(DIRECTIVE) == "replace":
        return _plain(patch)
    merged = dict(base)
    for key, value in patch.items():
        if key == DIRECTIVE:
            continue
        if value is None or _is_deletion(value):
            merged.pop(key, None)
        else:
            merged[key] = _merged(key, merged.get(key), value)
    return merged


def _merged(key: str, old: Any, new: Any) -> Any:
    if isinstance(new, Mapping):
        return merge(old if isinstance(old, Mapping) else {}, new)
    if isinstance(new, list) and isinstance(old, list):
        if key in APPENDED:
            return [*old, *(item for item in new if item not in old)]
        if key in MERGE_KEYS:
            return _merged_list(old, new, MERGE_KEYS[key])
    if isinstance(new, list):
        return _merged_list([], new, MERGE_KEYS[key]) if key in MERGE_KEYS else list(new)
    return new


def _merged_list(old: list[Any], new: list[Any], key: str) -> list[Any]:
    """Merge by key and keep the order of the base; what has no key is left to the API server."""
    merged = list(old)
    for item in new:
        if not isinstance(item, Mapping):
            merged.append(item)
            continue
        if item.get(DIRECTIVE) == "replace" and key not in item:
            merged = []
            continue
        at = _position(merged, key, item.get(key))
        if _is_deletion(item):
            del merged[at : at + 1]
        else:
            merged[at : at + 1] = [merge(merged[at] if at < len(merged) else {}, item)]
    return merged


def _is_deletion(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get(DIRECTIVE) == "delete"


def _position(items: list[Any], key: str, wanted: Any) -> int:
    """Return where the item with that key is, the end of the list if there is none."""
    for at, item in enumerate(items):
        if wanted is not None and isinstance(item, Mapping) and item.get(key) == wanted:
            return at
    return len(items)


def _plain(patch: Mapping[str, Any]) -> dict[str, Any]:
    return merge({}, {key: value for key, value in patch.items() if key != DIRECTIVE})
