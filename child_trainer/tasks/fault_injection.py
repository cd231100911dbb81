"""Rehearsed faults of the synthetic task: a child's seed determines its fault. Standard library only."""

import ctypes
import math
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NoReturn

from child_trainer.outcome import Budget
from child_trainer.seeding import BITS, derive
from child_trainer.training.task import Diverged, TaskError

MAX_FITTING_BATCH = 64
"""The rehearsed memory holds batches of up to this many images."""


def check_faults(faults: Mapping[str, float]) -> None:
    """Make sure that these are known faults with probabilities of which at most one strikes.

    Raises:
        TaskError: naming the first thing that is wrong.
    """
    for name, probability in faults.items():
        if name not in FAULTS:
            raise TaskError(f"there is no fault {name!r}; the faults are {', '.join(FAULTS)}")
        if not 0 <= probability <= 1:
            raise TaskError(f"the probability of the fault {name!r} must be from 0 to 1, got {probability}")
    # The sum of the shares that a user writes, such as ten times 0.1, must not fail for its last bit.
    if (total := math.fsum(faults.values())) > 1 + 1e-9:
        raise TaskError(f"the faults' probabilities must sum to at most 1, got {total:g}")


def parse_faults(text: str) -> Mapping[str, float]:
    """Return the faults of a text such as `crashed=0.1,hang=0.05`; an empty one means none.

    Raises:
        TaskError: it is not of this form, or as `check_faults` does.
    """
    faults: dict[str, float] = {}
    for part in text.split(",") if text.strip() else ():
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not (name and equals):
            raise TaskError(f"faults are written as `crashed=0.1,hang=0.05`, got {part.strip()!r} in {text!r}")
        if name in faults:
            raise TaskError(f"the fault {name!r} is given twice in {text!r}")
        try:
            faults[name] = float(number)
        except ValueError:
            raise TaskError(f"the probability of the fault {name!r} must be from 0 to 1, got {number!r}") from None
    check_faults(faults)
    return MappingProxyType(faults)


def drawn_fault(faults: Mapping[str, float], seed: int) -> str | None:
    """Return the fault that strikes the child of this seed, if any: each has its share of one uniform draw."""
    draw = derive(seed, "fault") / 2**BITS
    below = 0.0
    # In the order of the names' list, so that the order in which a user gives them does not count.
    for name in FAULTS:
        below += faults.get(name, 0.0)
        if draw < below:
            return name
    return None


def strike(fault: str, budget: Budget) -> None:
    """Let the fault strike the child that trains here; returns only if there is enough memory after all."""
    FAULTS[fault](budget)


def _crash(budget: Budget) -> None:
    ctypes.string_at(0)  # Reads address 0: a true segmentation fault, which no `except` sees.


def _hang(budget: Budget) -> NoReturn:
    while True:
        time.sleep(3600)


def _use_up_memory(budget: Budget) -> None:
    if budget.batch_size > MAX_FITTING_BATCH:
        raise RuntimeError(
            "DefaultCPUAllocator: not enough memory: a rehearsed fault, as of any batch of more than"
            f" {MAX_FITTING_BATCH} images; this one has {budget.batch_size}"
        )


def _diverge(budget: Budget) -> NoReturn:
    raise Diverged("the training loss is nan in epoch 2 (a rehearsed fault)")


FAULTS: Mapping[str, Callable[[Budget], None]] = MappingProxyType(
    {"crashed": _crash, "hang": _hang, "out_of_memory": _use_up_memory, "diverged": _diverge}
)
"""Every fault: a segmentation fault of the process; sleep for ever, whatever asks it to stop; a batch of more than
`MAX_FITTING_BATCH` images does not fit; the loss is not a number."""
