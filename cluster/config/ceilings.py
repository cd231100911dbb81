"""What a whole search may use, over all of its starts: options, and pure functions of what it has used.

Standard library only. The ledger knows what was used (`cluster.storage.ledger.queries.usage`), and
`cluster.runners.ceiling_watch` asks while the search runs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from child_trainer.field_types import check_types

HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class CeilingOptions:
    """What the whole search may use, over all of its starts: at a ceiling it ends with the children in training."""

    max_hours: float | None = None
    """Hours that the search may run, without pauses; no child begins after them, and those in training end. The time of
    all starts counts together, from when a start's search begins."""
    max_gpu_hours: float | None = None
    """GPU hours that the children may use; each attempt counts with its seconds and its share of a GPU. Failed and
    repeated attempts count, too."""
    max_cost: float | None = None
    """What the children's GPU hours may cost, at the price of `cost_per_gpu_hour`."""
    cost_per_gpu_hour: float | None = None
    """The price of a GPU hour, in any currency; it applies to all GPU hours of the search, earlier ones included."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, value in vars(self).items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"`{name}` must be a number above 0, got {value}")
        if self.max_cost is not None and self.cost_per_gpu_hour is None:
            raise ValueError("`max_cost` needs the price of a GPU hour: give `cost_per_gpu_hour`, too")

    @property
    def counts_gpus(self) -> bool:
        """Whether a ceiling is on GPU hours or on what they cost."""
        return self.max_gpu_hours is not None or self.max_cost is not None

    @property
    def any(self) -> bool:
        """Whether there is a ceiling at all."""
        return self.max_hours is not None or self.counts_gpus


NO_CEILINGS = CeilingOptions()


@dataclass(frozen=True, kw_only=True, slots=True)
class Used:
    """What a search has used in all of its starts: hours that it has run, and GPU hours of its children's attempts."""

    hours: float
    gpu_hours: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """One ceiling: the option that sets it, how much of it is used, and words around the amounts."""

    option: str
    used: float
    limit: float
    words: str

    @property
    def text(self) -> str:
        """How much of it is used, such as `3.201 of 12 hours`."""
        return self.words.format(f"{self.used:.4g} of {self.limit:.15g}")

    @property
    def flag(self) -> str:
        """The flag that sets it."""
        return f"--{self.option.replace('_', '-')}"


def ceilings_of(options: CeilingOptions, used: Used) -> Iterator[Ceiling]:
    """Yield the ceilings that a search has, with what is used of each."""
    if options.max_hours is not None:
        yield Ceiling(option="max_hours", used=used.hours, limit=options.max_hours, words="{} hours")
    if options.max_gpu_hours is not None:
        yield Ceiling(option="max_gpu_hours", used=used.gpu_hours, limit=options.max_gpu_hours, words="{} GPU hours")
    if options.max_cost is not None:
        yield Ceiling(option="max_cost", used=cost_of(options, used), limit=options.max_cost, words="a cost of {}")


def cost_of(options: CeilingOptions, used: Used) -> float:
    """Return what the GPU hours cost; 0 without a price."""
    return used.gpu_hours * (options.cost_per_gpu_hour or 0.0)


def used_up(options: CeilingOptions, used: Used) -> Ceiling | None:
    """Return the first ceiling that is used up, if one is."""
    return next((ceiling for ceiling in ceilings_of(options, used) if ceiling.used >= ceiling.limit), None)


def left_of(options: CeilingOptions, used: Used) -> CeilingOptions:
    """Return the ceilings that are left once so much was used, which no ceiling may be used up by."""
    changes = {ceiling.option: ceiling.limit - ceiling.used for ceiling in ceilings_of(options, used)}
    return replace(options, **changes)


def reason_of(ceiling: Ceiling) -> str:
    """Return why the search ends at this ceiling, as a clause."""
    return f"its ceiling {ceiling.flag} is reached: {ceiling.text}"


def least_seconds(options: CeilingOptions, used: Used, gpus: float) -> float:
    """Return the seconds that must pass before a ceiling can be reached; infinity if there is none.

    Args:
        options: the ceilings.
        used: what is used now.
        gpus: the most GPUs that children use at once.
    """
    rates = {"max_hours": 1.0, "max_gpu_hours": gpus, "max_cost": gpus * (options.cost_per_gpu_hour or 0.0)}
    left = (
        max(0.0, ceiling.limit - ceiling.used) * HOUR_S / rates[ceiling.option]
        for ceiling in ceilings_of(options, used)
        if rates[ceiling.option]
    )
    return min(left, default=math.inf)
