"""Parses times with their units, such as 90s or 3h. Standard library only."""

import math

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_seconds(name: str, text: str, *, zero: bool = False) -> float:
    """Return the seconds of a number with a unit (s, m, h or d) or without one (seconds).

    Args:
        name: the option's, for the message.
        text: its value.
        zero: whether 0 is allowed.

    Raises:
        ValueError: it is no such number, or not above 0.
    """
    unit = UNITS_S.get(text[-1:])
    try:
        seconds = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and (seconds > 0 or (zero and seconds == 0))):
        allowed = "0 or a time" if zero else "a time above 0"
        raise ValueError(f"`{name}` must be {allowed} such as 2h, 90m or 600s, got {text!r}")
    return seconds
