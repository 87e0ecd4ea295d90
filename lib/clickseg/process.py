"""Keep memory, garbage collection and idle threads from taking time.

A mask of 448x448x80 has 16 MB. Left alone, glibc gives blocks of that size back to the system and
asks for them again, page by page, which takes 20 to 40 ms of a click, and a tenth of a step of a
training. Python looks through all that the libraries loaded for garbage now and then, which takes
200 ms. A thread of OpenBLAS that has done its part, be it microseconds, keeps asking for more for
tens of milliseconds, and on two cores slows down everything that a click does after.
"""

from __future__ import annotations

import ctypes
import gc
import platform

from threadpoolctl import threadpool_limits

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of settings in glibc's malloc.h

KEPT_BYTES = 256 << 20
"""This much freed memory at most stays with the process, for each of its heaps."""

BLOCK_BYTES = 64 << 20, 32 << 20
"""Blocks up to this size are reused: a mask, and the answer that holds it. glibc before 2.35 takes
32 MiB at most."""


def keep_freed_memory() -> bool:
    """Let the C library reuse the memory of masks; return False where it is another than glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    is_kept = mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    return bool(any(mallopt(_MMAP_THRESHOLD, size) for size in BLOCK_BYTES) and is_kept)


def keep_what_is_loaded() -> None:
    """Leave what exists now out of all later garbage collections."""
    gc.collect()
    gc.freeze()


def keep_blas_to_one_thread() -> None:
    """Let linear algebra of NumPy and SciPy run where it is called; torch has its own threads.

    It holds for libraries that are loaded by now.
    """
    threadpool_limits(1, user_api="blas")
