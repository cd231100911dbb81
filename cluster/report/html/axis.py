"""Axes of plots: scales, ticks and number formats. Standard library only."""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

HUGE = 1e300
"""Larger numbers would overflow in the computation of a margin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        label: quantity and unit.
        low, high: values at its ends; `low` is below `high`.
        log: whether the scale is logarithmic.
        whole: whether its ticks are whole numbers.
    """

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def share(self, value: float) -> float:
        """Return the position of a value on the axis, from 0 at `low` to 1 at `high`."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)

    def ticks(self) -> list[float]:
        """Return two to seven round numbers within the ends."""
        return _log_ticks(self.low, self.high) if self.log else _even_ticks(self.low, self.high, self.whole)


def axis(label: str, values: Iterable[float], *, zero: bool = False, log: bool = False, whole: bool = False) -> Axis:
    """Return an axis that holds all values with a margin; it starts at 0 if `zero`, and is never empty."""
    numbers = list(values)
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    if log:
        return Axis(label=label, low=low / 1.15, high=min(high, sys.float_info.max / 1.15) * 1.15, log=True)
    if zero:
        low = min(low, 0.0)
    if high == low:
        low, high = (low, low + 1) if zero or whole else (low - max(abs(low), 1e-9) / 2, low + max(abs(low), 1e-9) / 2)
    # Perplexities may be near the largest float, which leaves no margin.
    high = min(high, sys.float_info.max)
    margin = (high - low) * 0.04 if high < HUGE else 0.0
    return Axis(label=label, low=low if zero else low - margin, high=high + margin, whole=whole)


def _even_ticks(low: float, high: float, whole: bool) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    powers = range(first, last + 1, max(1, math.ceil((last - first) / 7)))
    factors = (1,) if math.log10(high / low) > 3 else (1, 3) if math.log10(high / low) > 1.5 else (1, 2, 5)
    return [t for power in powers for factor in factors if low <= (t := factor * 10.0**power) <= high]


def short(value: float) -> str:
    """Format a number in 3 digits, such as 25.6k or 7.14M; with an exponent where no unit is large enough."""
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    for size, unit in UNITS:
        if abs(value) >= size:
            return f"{_digits(value / size)}{unit}"
    return _digits(value)


def _digits(value: float) -> str:
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e+" in text else text


def wait_unit(seconds: float) -> tuple[float, str]:
    """Return the unit, in seconds, and its name for a wait that may be as short as a call."""
    return (0.001, "milliseconds") if seconds < 1 else time_unit(seconds)


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the unit, in seconds, and its name that suit a duration."""
    if seconds >= 2 * 86400:
        return 86400.0, "days"
    if seconds >= 2 * 3600:
        return 3600.0, "hours"
    return (60.0, "minutes") if seconds >= 120 else (1.0, "seconds")
