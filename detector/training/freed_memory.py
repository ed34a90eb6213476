"""Memory that a step on a CPU frees stays with the process, for the next step.

glibc would hand it back to the system, which clears every page of it before it gives it again:
5 to 10 % of the step of a small network.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Names and numbers are those of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 << 20  # that glibc would itself come to, with twice as much to trim
NEVER = 2**31 - 1


@contextmanager
def kept_freed_memory() -> Iterator[None]:
    """Within, the process keeps what it frees, in pieces of up to 32 MiB; afterwards, it is handed
    back. Does nothing with another C library than glibc."""
    try:
        libc = ctypes.CDLL(None)
        mallopt, malloc_trim = libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):
        yield
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_MMAP_THRESHOLD)
        malloc_trim(0)
