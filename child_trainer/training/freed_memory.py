"""Memory that a step frees stays with the process for the next step, and goes back after the training.

A training step allocates and frees the same tensors again and again. The C library returns large ones to the system at
once, and the system then fills each page with zeros before it is used again: a sixth of the CPU time of a network on
CIFAR-10. No result depends on it. Standard library only.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""

_NEVER = 2**31 - 1
"""The largest threshold that `mallopt` takes, in bytes."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in the process until the block is left; does nothing with another C library than glibc."""
    give_back = _keep()
    try:
        yield
    finally:
        give_back()


@cache
def _keep() -> Callable[[], object]:
    """Have the C library keep what is freed, in the whole process; return the function that gives it back."""
    library = ctypes.CDLL(None)
    try:
        set_option, trim = library.mallopt, library.malloc_trim
    except AttributeError:
        return lambda: None
    set_option(_M_MMAP_THRESHOLD, _NEVER)
    set_option(_M_TRIM_THRESHOLD, _NEVER)
    return lambda: trim(0)
