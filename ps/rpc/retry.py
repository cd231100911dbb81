"""Trying again until it works, or until the patience is over."""

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from ps.errors import StoreError, StoreUnavailable

_T = TypeVar("_T")

_PAUSE_S = 0.05, 0.5
"""First and longest pause between attempts; each is twice the last. A shard that is back waits as long to be found."""


class Missed(Exception):
    """An attempt that another one may make good.

    Attributes:
        reason: what to raise once the patience is over.
        asked: the question for addresses (`Route.asked`) after which the attempt was made.
    """

    def __init__(self, reason: StoreError, asked: int) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.asked = asked


def persist(attempt: Callable[[], _T], until: float, refresh: Callable[[int], None], closed: Event) -> _T:
    """What `attempt` returns, or raises other than `Missed`; it is made at least once.

    Args:
        attempt: raises `Missed` if it may be repeated.
        until: when the patience ends, as `time.monotonic` counts.
        refresh: is given `Missed.asked` before the next attempt.
        closed: once it is set, nothing is attempted any more.

    Raises:
        StoreUnavailable: `closed` was set during a pause.
    """
    pause_s, longest_s = _PAUSE_S
    while True:
        try:
            return attempt()
        except Missed as missed:
            if time.monotonic() + pause_s > until:
                raise missed.reason from missed.__cause__
            asked = missed.asked
        refresh(asked)
        if closed.wait(pause_s):
            raise StoreUnavailable("the store is closed")
        pause_s = min(2 * pause_s, longest_s)
