"""What a simulation is told in words: how long children take, and how often things are lost. Pure.

lognormal:3600:0.5    a median of 3,600 s; sigma 0.5, of the logarithm
exponential:3600      a mean of 3,600 s
constant:3600         all alike
0.05/h                so many an hour, of each
200h                  a time; as a mean time between failures, its inverse is the rate
"""

import math
import random
import re
from dataclasses import dataclass
from typing import Literal, get_args

from cluster.config.durations import UNITS_S

Shape = Literal["constant", "exponential", "lognormal"]

MOST_SCALE_S, MOST_SIGMA = 1e9, 10.0
"""More is a slip of the hand: children of 30 years, or one in a thousand that takes 10^13 times the median."""

NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?"


@dataclass(frozen=True, slots=True)
class ChildSeconds:
    """A distribution of how long a child trains.

    Attributes:
        shape: which.
        scale_s: seconds, above 0: all of `constant`, the mean of `exponential`, the median of `lognormal`.
        sigma: the standard deviation of the logarithm; 0 but for `lognormal`.
    """

    shape: Shape
    scale_s: float
    sigma: float = 0.0

    def draw(self, generator: random.Random) -> float:
        """Seconds of one child."""
        if self.shape == "exponential":
            return generator.expovariate(1 / self.scale_s)
        return self.scale_s * math.exp(self.sigma * generator.gauss(0.0, 1.0)) if self.sigma else self.scale_s


def child_seconds_of(text: str) -> ChildSeconds:
    """A distribution, as it is written above.

    Raises:
        ValueError: it is none.
    """
    shape, *words = text.split(":")
    numbers = [float(word) for word in words if re.fullmatch(NUMBER, word)]
    wanted = 2 if shape == "lognormal" else 1
    known = next((name for name in get_args(Shape) if name == shape), None)
    right = known and len(numbers) == len(words) == wanted and all(map(math.isfinite, numbers)) and numbers[0] > 0
    if known is None or not right:
        raise ValueError(
            f"child seconds are {text!r}, but must be lognormal:MEDIAN:SIGMA, exponential:MEAN or constant:SECONDS,"
            " in seconds above 0, as in lognormal:3600:0.5"
        )
    found = ChildSeconds(known, *numbers)
    if found.scale_s > MOST_SCALE_S or found.sigma > MOST_SIGMA:
        most = f"{MOST_SCALE_S:,.0f} seconds and a sigma of {MOST_SIGMA:g}"
        raise ValueError(f"child seconds are {text!r}, but may have at most {most}")
    return found


def rate_of(text: str) -> float:
    """How often something happens to each, per second, as in `0.05/h`; `0/h` is never.

    Raises:
        ValueError: it is no rate.
    """
    found = re.fullmatch(f"({NUMBER})/([smhd])", text)
    rate = float(found[1]) / UNITS_S[found[2]] if found else math.inf
    if not math.isfinite(rate):
        raise ValueError(f"a rate is {text!r}, but must be a number with /s, /m, /h or /d, as in 0.05/h")
    return rate
