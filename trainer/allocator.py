"""Lets freed memory be used again instead of giving it back to the system in each step."""

from __future__ import annotations

import ctypes

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest value that glibc takes for blocks, and what it then sets the other to: where nobody
# has set them, it gets there by itself once a program has freed a block of that size.
_BLOCK_BYTES = 32 << 20
_TRIM_BYTES = 2 * _BLOCK_BYTES


def keep_blocks() -> None:
    """Call it for each iterator over a strategy's data, once it has given something.

    Under Python 3.11 TensorFlow 2.21 sets the size from which on a block has a mapping of its own
    to 128 KiB when it makes an iterator over a strategy's data (`ApplyPython311MemoryPatch`). From
    then on each larger tensor is mapped, cleared page by page and unmapped in every step: for
    LeNet-5 and 64 digits 4,400 page faults, a third of the step. A C library without these
    settings is left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _BLOCK_BYTES)
        mallopt(_TRIM_THRESHOLD, _TRIM_BYTES)
