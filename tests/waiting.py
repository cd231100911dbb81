"""Waiting for something that another thread, process or machine does."""

import time
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 120.0
"""Timeout for what must happen: far longer than anything takes on a busy machine."""


def until(
    condition: Callable[[], object], what: str = "it", *, timeout_s: float = TIMEOUT_S, pause_s: float = 0.02
) -> Any:
    """Wait until `condition` returns something true, and return that; an error says what has not happened."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} has not happened within {timeout_s:g} s"
        time.sleep(pause_s)
    return found
