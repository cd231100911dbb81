"""Parses times with their units, such as 90s or 3h. Standard library only."""

import math

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_seconds(name: str, text: str) -> float:
    """Return the seconds of a number with a unit (s, m, h or d) or without one (seconds).

    Raises:
        ValueError: it is no such number, or not above 0; naming the option `name`.
    """
    unit = UNITS_S.get(text[-1:])
    try:
        seconds = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"`{name}` must be a time above 0 such as 2h, 90m or 600s, got {text!r}")
    return seconds
