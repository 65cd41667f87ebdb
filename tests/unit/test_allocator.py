"""Memory that is freed is used again, whatever TensorFlow has told the C library."""

from __future__ import annotations

import ctypes

import pytest

from trainer import allocator

LIBRARY = ctypes.CDLL(None)
FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class Usage(ctypes.Structure):
    """What mallinfo2 returns."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS.split()]


def mapped_for(size: int) -> int:
    """Return how many bytes are mapped when a block of this size is asked for."""
    LIBRARY.mallinfo2.restype = Usage
    LIBRARY.malloc.restype = ctypes.c_void_p
    LIBRARY.malloc.argtypes = [ctypes.c_size_t]
    LIBRARY.free.argtypes = [ctypes.c_void_p]
    before = LIBRARY.mallinfo2().hblkhd
    block = LIBRARY.malloc(size)
    after = LIBRARY.mallinfo2().hblkhd
    LIBRARY.free(block)
    return int(after - before)


@pytest.mark.skipif(not hasattr(LIBRARY, "mallinfo2"), reason="this is not glibc 2.33 or newer")
def test_large_blocks_are_not_mapped_one_by_one_any_more() -> None:
    # What TensorFlow does.
    LIBRARY.mallopt(-3, 128 << 10)
    assert mapped_for(24 << 20) >= 24 << 20
    allocator.keep_blocks()
    assert mapped_for(24 << 20) == 0
