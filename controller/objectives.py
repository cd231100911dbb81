"""Costs of a child beside its metric, and the reward of several objectives (Tan et al. 2019, MnasNet, section 3).

Standard library only.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from child_trainer.cost_ratio import cost_ratio
from child_trainer.outcome import LATENCY, Outcome
from controller.pareto import Point
from controller.searcher import ChildRecord

MNASNET_WEIGHT = -0.07
"""MnasNet's exponent: twice the latency is worth 5 % of accuracy."""

COUNTS: Mapping[str, float] = MappingProxyType({"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9})


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """A number of a child, of which less is better.

    Attributes:
        name: as objectives name it.
        of: returns it from an outcome; `None` where the outcome does not have it.
        unit: that of the number; empty for a count.
        units: how many of `unit` each unit is in which a target may be given.
        words: what it is, for people.
    """

    name: str
    of: Callable[[Outcome], float | None]
    unit: str
    units: Mapping[str, float]
    words: str

    @property
    def example(self) -> str:
        """A target of this cost, such as `latency=5ms`."""
        return f"{self.name}={EXAMPLES[self.name]}"

    def amount(self, text: str) -> float:
        """Return the number that a text such as `5ms` or `1.5M` gives.

        Raises:
            ValueError: it is no number above 0 with a unit of this cost; the message says what would be.
        """
        found = re.fullmatch(r"([-+]?[\d.]+(?:e[-+]?\d+)?)\s*([A-Za-zµ]*)", text.strip())
        number, unit = _number(found[1]) if found else math.nan, found[2] if found else ""
        value = number * self.units.get(unit, math.nan)
        if not (math.isfinite(value) and value > 0):
            kind = f"a unit ({', '.join(self.units)})" if self.unit else "no unit but k, M or G"
            raise ValueError(f"must be a number above 0 with {kind}, such as {self.example}, got {self.name}={text}")
        return value

    def text(self, value: float) -> str:
        """Return a value for people, with its unit."""
        if not self.unit:
            return f"{value:,.0f}"
        return f"{value:.4g} {self.unit}"


EXAMPLES: Mapping[str, str] = MappingProxyType(
    {"parameters": "1M", "flops": "300M", "seconds": "90s", "latency": "5ms", "memory": "2GB"}
)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _memory(outcome: Outcome) -> float | None:
    return None if outcome.gpu_bytes is None else outcome.gpu_bytes / 1e6


COSTS: Mapping[str, Cost] = MappingProxyType(
    {
        cost.name: cost
        for cost in (
            Cost(name="parameters", of=lambda o: o.parameters, unit="", units=COUNTS, words="parameters"),
            Cost(name="flops", of=lambda o: o.flops, unit="", units=COUNTS, words="FLOPs of one example"),
            Cost(
                name="seconds",
                of=lambda o: o.seconds,
                unit="s",
                units=MappingProxyType({"s": 1.0, "m": 60.0, "h": 3600.0}),
                words="seconds of training",
            ),
            Cost(
                name="latency",
                of=lambda o: o.measurements.get(LATENCY),
                unit="ms",
                units=MappingProxyType({"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}),
                words="latency",
            ),
            Cost(
                name="memory",
                of=_memory,
                unit="MB",
                units=MappingProxyType({"kB": 1e-3, "MB": 1.0, "GB": 1e3}),
                words="peak GPU memory of training",
            ),
        )
    }
)
"""All costs by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a cost should be at most.

    Attributes:
        cost: the cost.
        value: T, in the cost's unit.
        below, above: MnasNet's exponents alpha and beta, of a cost up to T and of one above it; 0 or less.
    """

    cost: Cost
    value: float
    below: float = MNASNET_WEIGHT
    above: float = MNASNET_WEIGHT

    def factor(self, outcome: Outcome) -> float | None:
        """Return (cost / T) ** w: above 0, and the lower the more the child costs; `None` if the cost is unknown."""
        cost = self.cost.of(outcome)
        if cost is None:
            return None
        ratio = cost_ratio(cost, self.value)
        return ratio ** (self.below if ratio <= 1 else self.above)


def product(reward: float, outcome: Outcome, targets: Sequence[Target]) -> float | None:
    """Return reward * (cost / T) ** w over all targets; `None` if a cost is unknown.

    MnasNet has the accuracy in place of the reward. A reward below 0 is divided instead, so that a child that costs
    more never has the higher one.
    """
    for target in targets:
        factor = target.factor(outcome)
        if factor is None:
            return None
        reward = reward * factor if reward >= 0 else reward / factor
    return reward


def point_of(child: ChildRecord, costs: Sequence[Cost]) -> Point | None:
    """Return a child's objectives, of which lower is better; `None` if the child lacks one."""
    if child.outcome is None or child.outcome.failure or child.reward is None:
        return None
    values = [cost.of(child.outcome) for cost in costs]
    known = [value for value in values if value is not None]
    return None if len(known) < len(values) else (-child.reward, *known)
