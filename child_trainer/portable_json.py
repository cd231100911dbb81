"""JSON that every reader takes: no Infinity or NaN, and no integer that a double would round. Standard library only."""

import json
import math
from collections.abc import Mapping
from typing import Any

MAX_INTEGER = 2**53
"""Readers that keep numbers as doubles, such as jq and JavaScript, round greater integers."""


def dumps(data: Any, *, indent: int | None = None) -> str:
    """Return JSON text; numbers that are not finite become null, and integers beyond 53 bits become text."""
    return json.dumps(_portable(data), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """Return a value, or `None` for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _portable(data: Any) -> Any:
    if isinstance(data, float):
        return finite(data)
    if isinstance(data, int) and abs(data) > MAX_INTEGER:
        return str(data)
    if isinstance(data, Mapping):
        return {key: _portable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_portable(value) for value in data]
    return data
