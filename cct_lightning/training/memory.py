"""How the C library allocates the memory of tensors on a CPU."""

import ctypes
import platform


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory, which the system would otherwise take back and clear page by page; tell if it did.

    A training step frees and allocates the same large tensors every time; measured in benchmarks/training_step.py. The
    process keeps its peak memory until it ends. Nothing but speed changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # M_* of malloc.h
    largest = 2**31 - 1
    return all((mallopt(mmap_threshold, 2**30), mallopt(trim_threshold, largest), mallopt(top_pad, 2**26)))
