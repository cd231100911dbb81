"""Failures for lack of memory that another attempt need not have. Standard library only."""

from typing import Literal

from child_trainer.outcome import Cause
from cluster.search.records import Attempt

Lack = Literal["as one", "in a part"]
"""Where memory was too small: for several networks as one, or in a part of a GPU."""


def memory_lacked(cause: Cause, share: float | None, *, fused: bool) -> Lack | None:
    """Return which lack of memory a failure was that another attempt need not have; `None` for every other failure.

    A child that lacked memory as one network with other seeds is trained alone, and one that lacked it in a part of a
    GPU in a larger part.

    Args:
        cause: of the failure.
        share: the part of a GPU that the attempt had; `None` if the pool gave it none.
        fused: whether the attempt was made as one with others.
    """
    if cause != Cause.OUT_OF_MEMORY:
        return None
    if fused:
        return "as one"
    return "in a part" if share is not None and share < 1.0 else None


def memory_lacked_in(attempt: Attempt) -> Lack | None:
    """Return `memory_lacked` of an attempt that failed."""
    assert attempt.cause is not None
    share, outcome = attempt.gpu and attempt.gpu.share, attempt.outcome
    return memory_lacked(attempt.cause, share, fused=outcome is not None and outcome.fused)
