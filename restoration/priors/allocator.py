"""The memory of a run's tensors, kept from one layer to the next on the CPU.

glibc returns a block of megabytes to the system as soon as a layer is done with it. The next layer's is new
pages then, each of which the kernel clears when it is first touched: at 2 megapixels a quarter of the time.
Here freed blocks are kept until the run ends. Elsewhere than with glibc nothing is changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
from collections.abc import Iterator

# parameters of mallopt(3): a block beyond the trim threshold goes back from the heap's end, one of mmap's at
# once, and in an arena of its own a thread gets large blocks by mmap alone
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
LARGEST = 2**31 - 1
SPARE = 2**28  # bytes that stay at the heap's end: small pictures one after the other need no new pages


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


@functools.cache
def keep_blocks() -> None:
    """From now on freed blocks stay with the process until `give_back`; threads share one arena if they begin
    later.
    """
    if library := _glibc():
        library.mallopt(ARENA_MAX, 1)
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, LARGEST)


def give_back() -> None:
    """What is free to the system, but for SPARE."""
    if library := _glibc():
        library.malloc_trim(ctypes.c_size_t(SPARE))


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Freed blocks stay with the process for as long as this lasts."""
    keep_blocks()
    try:
        yield
    finally:
        give_back()
