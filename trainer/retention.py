"""Which checkpoints of a job are kept. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainer.contract import Checkpointing
from trainer.storage import Manifest


def kept(newest_first: Sequence[Manifest], policy: Checkpointing) -> tuple[Manifest, ...]:
    """Return the newest keep_last checkpoints, and the best by best_metric besides.

    Among equals the newest is the best. A checkpoint without a finite value of the metric is
    never the best. At least one is kept.
    """
    newest = tuple(newest_first[: max(1, policy.keep_last)])
    best = _best(newest_first, policy)
    return newest if best is None or best in newest else (*newest, best)


def _best(newest_first: Sequence[Manifest], policy: Checkpointing) -> Manifest | None:
    sign = -1.0 if policy.best_mode == "min" else 1.0
    best, best_value = None, -math.inf
    for manifest in newest_first:
        value = sign * manifest.metrics.get(policy.best_metric, math.nan)
        # Strictly greater keeps the first met, which is the newest; so does the check for NaN.
        if math.isfinite(value) and value > best_value:
            best, best_value = manifest, value
    return best
