"""The threads with which a child is trained: how a sum is shared out between them is seen in its last bits.

PyTorch takes all cores unless `OMP_NUM_THREADS` says otherwise, and a Ray worker's process gets one; a child's curve
must not depend on that. Standard library only, so that a task without tensors starts without PyTorch.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MAX_THREADS = 1024
"""More threads for one child than this are a slip."""

VARIABLE = "OMP_NUM_THREADS"
"""Environment variable from which PyTorch, when it is imported, takes its number of threads."""


def check_threads(threads: int, name: str) -> int:
    """Return the number of threads of a child.

    Raises:
        ValueError: it is below 1 or above `MAX_THREADS`; the message calls it by `name`.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"`{name}` must be 1 to {MAX_THREADS}, got {threads}")
    return threads


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Have PyTorch compute with this many threads in the calling thread, until the block is left.

    Where PyTorch has not been imported yet, the block's first import of it takes the number from the environment.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        with _variable_set(threads):
            yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _variable_set(threads: int) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(threads)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
        if (torch := sys.modules.get("torch")) is not None:
            usual = int(before) if before and before.isdecimal() else 0
            torch.set_num_threads(usual or len(os.sched_getaffinity(0)))
