"""Parses the times of children and the rates of failures. Pure.

lognormal:3600:0.5    a median of 3,600 s; sigma 0.5, of the logarithm
exponential:3600      a mean of 3,600 s
constant:3600         3,600 s for each child
0.05/h                a rate: so many an hour, per worker
200h                  a time; a mean time between failures is the inverse of a rate
"""

import math
import random
import re
from dataclasses import dataclass
from typing import Literal, get_args

from cluster.config.durations import UNITS_S

Shape = Literal["constant", "exponential", "lognormal"]

MAX_SCALE_S, MAX_SIGMA = 1e9, 10.0
"""Larger values are rejected as typos: children of 30 years, or 1 in 1,000 at 10^13 times the median."""

NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?"


@dataclass(frozen=True, slots=True)
class ChildSeconds:
    """A distribution of the training time of a child.

    Attributes:
        shape: kind of distribution.
        scale_s: seconds, above 0: the value of `constant`, the mean of `exponential`, the median of `lognormal`.
        sigma: standard deviation of the logarithm; 0 except for `lognormal`.
    """

    shape: Shape
    scale_s: float
    sigma: float = 0.0

    def draw(self, generator: random.Random) -> float:
        """Draw the seconds of one child."""
        if self.shape == "exponential":
            return generator.expovariate(1 / self.scale_s)
        return self.scale_s * math.exp(self.sigma * generator.gauss(0.0, 1.0)) if self.sigma else self.scale_s


def parse_child_seconds(text: str) -> ChildSeconds:
    """Parse a distribution, as in `lognormal:3600:0.5`.

    Raises:
        ValueError: the text is no distribution.
    """
    shape, *words = text.split(":")
    numbers = [float(word) for word in words if re.fullmatch(NUMBER, word)]
    count = 2 if shape == "lognormal" else 1
    name = next((known for known in get_args(Shape) if known == shape), None)
    valid = name and len(numbers) == len(words) == count and all(map(math.isfinite, numbers)) and numbers[0] > 0
    if name is None or not valid:
        raise ValueError(
            f"`child_seconds` must be lognormal:MEDIAN:SIGMA, exponential:MEAN or constant:SECONDS, in seconds above 0,"
            f" as in lognormal:3600:0.5, got {text!r}"
        )
    distribution = ChildSeconds(name, *numbers)
    if distribution.scale_s > MAX_SCALE_S or distribution.sigma > MAX_SIGMA:
        limits = f"{MAX_SCALE_S:,.0f} seconds and a sigma of {MAX_SIGMA:g}"
        raise ValueError(f"`child_seconds` must have at most {limits}, got {text!r}")
    return distribution


def parse_rate(text: str) -> float:
    """Parse a rate, as in `0.05/h`, and return it per second; `0/h` is never.

    Raises:
        ValueError: the text is no rate.
    """
    match = re.fullmatch(f"({NUMBER})/([smhd])", text)
    rate = float(match[1]) / UNITS_S[match[2]] if match else math.inf
    if not math.isfinite(rate):
        raise ValueError(f"a rate must be a number with /s, /m, /h or /d, as in 0.05/h, got {text!r}")
    return rate
