"""How long to wait before what has failed is tried again. Pure."""

from __future__ import annotations


def doubled(first_s: float, times: int, *, longest_s: float) -> float:
    """Return the seconds to wait after so many failures in a row: twice as long after each."""
    # The exponent is bounded so that a huge count computes no huge number.
    return min(longest_s, first_s * 2.0 ** min(times - 1, 32))
