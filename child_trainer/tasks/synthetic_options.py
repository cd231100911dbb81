"""The options of the synthetic task. Standard library only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from child_trainer.field_types import check_types
from child_trainer.tasks.fault_injection import parse_faults
from child_trainer.training.task import TaskError


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions:
    """How long synthetic children pretend to train, and how they fail.

    Raises:
        TaskError: an option is impossible.
    """

    child_seconds: float = 0.0
    """Seconds that a synthetic child pretends to train for."""
    child_spread: float = 0.0
    """How much synthetic children differ in that: the sigma of a log-normal distribution around those seconds."""
    child_faults: str = ""
    """Faults that synthetic children rehearse: FAULT=PROBABILITY,... of crashed (a segmentation fault), hang,
    out_of_memory and diverged."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("child_seconds", "child_spread"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise TaskError(f"`{name}` must be 0 or more, got {value}")
        if self.child_spread and not self.child_seconds:
            raise TaskError(f"`child_spread` needs a `child_seconds` above 0, got {self.child_spread} with 0 seconds")
        parse_faults(self.child_faults)

    @property
    def faults(self) -> Mapping[str, float]:
        """The rehearsed faults and their probabilities."""
        return parse_faults(self.child_faults)

    @property
    def instant(self) -> bool:
        """Whether a child takes no time and cannot fail."""
        return not (self.child_seconds or self.faults)
