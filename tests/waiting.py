"""Waiting for something that another thread, process or machine does."""

import time
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 120.0
"""Timeout for what must happen: far longer than anything takes on a busy machine."""


def until(
    condition: Callable[[], object],
    what: str = "it",
    *,
    timeout_s: float = TIMEOUT_S,
    pause_s: float = 0.02,
    state: Callable[[], object] | None = None,
) -> Any:
    """Wait until `condition` returns something true, and return that.

    An error says what has not happened, and what `state` returns then.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        late = time.monotonic() >= deadline
        assert not late, f"{what} has not happened within {timeout_s:g} s{f'; {state()}' if state else ''}"
        time.sleep(pause_s)
    return found
