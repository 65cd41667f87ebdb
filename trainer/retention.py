"""Which checkpoints of a job are kept. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainer.contract import Checkpointing
from trainer.storage import Manifest


def kept(newest_first: Sequence[Manifest], policy: Checkpointing) -> tuple[Manifest, ...]:
    """Return the newest keep_last checkpoints; besides them the best by best_metric, and of every
    keep_every_steps steps the first.

    Among equals the newest is the best. A checkpoint without a finite value of the metric is
    never the best. At least one is kept.
    """
    keep = list(newest_first[: max(1, policy.keep_last)])
    for manifest in (_best(newest_first, policy), *_milestones(newest_first, policy)):
        if manifest is not None and manifest not in keep:
            keep.append(manifest)
    return tuple(keep)


def _milestones(newest_first: Sequence[Manifest], policy: Checkpointing) -> tuple[Manifest, ...]:
    """Return the first checkpoint at or behind each multiple of keep_every_steps. It stays the
    first, so what was kept once is kept for ever."""
    every = policy.keep_every_steps
    if not every:
        return ()
    first = {manifest.step // every: manifest for manifest in newest_first}
    return tuple(manifest for number, manifest in first.items() if number > 0)


def _best(newest_first: Sequence[Manifest], policy: Checkpointing) -> Manifest | None:
    sign = -1.0 if policy.best_mode == "min" else 1.0
    best, best_value = None, -math.inf
    for manifest in newest_first:
        value = sign * manifest.metrics.get(policy.best_metric, math.nan)
        # Strictly greater keeps the first met, which is the newest; so does the check for NaN.
        if math.isfinite(value) and value > best_value:
            best, best_value = manifest, value
    return best
