"""Memory that is freed is used again, whatever TensorFlow has told the C library."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

LIBRARY = ctypes.CDLL(None)
# How many bytes are mapped when a large block is asked for, before and after. In a process of its
# own, since the C library counts what all threads map, and those of TensorFlow have work to do.
PROGRAM = """
import ctypes
from trainer import allocator

FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class Usage(ctypes.Structure):
    # What mallinfo2 returns.
    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS.split()]


library = ctypes.CDLL(None)
library.mallinfo2.restype = Usage
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]


def mapped_for(size):
    before = library.mallinfo2().hblkhd
    block = library.malloc(size)
    after = library.mallinfo2().hblkhd
    library.free(block)
    return after - before


# What TensorFlow does.
library.mallopt(-3, 128 << 10)
print(mapped_for(24 << 20))
allocator.keep_blocks()
print(mapped_for(24 << 20))
"""


@pytest.mark.skipif(not hasattr(LIBRARY, "mallinfo2"), reason="this is not glibc 2.33 or newer")
def test_large_blocks_are_not_mapped_one_by_one_any_more() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = (int(line) for line in done.stdout.splitlines())
    assert first >= 24 << 20
    assert second == 0
