"""Retrying an attempt until it succeeds, or until the retry timeout is over."""

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from ps.errors import StoreError, StoreUnavailable

_T = TypeVar("_T")

_MIN_RETRY_DELAY_S = 0.05
"""Seconds before the second attempt; each later delay is twice the one before it."""

_MAX_RETRY_DELAY_S = 0.5
"""The longest delay. A shard that is available again waits up to this long for the next attempt."""


class RetryableError(Exception):
    """An attempt failed, and another one may succeed.

    Attributes:
        reason: the error to raise when the retry timeout is over.
        lookup: the lookup of addresses (`Address.lookup`) that the attempt used.
    """

    def __init__(self, reason: StoreError, lookup: int) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.lookup = lookup


def retry(attempt: Callable[[], _T], give_up_at: float, refresh: Callable[[int], None], closed: Event) -> _T:
    """Return what `attempt` returns, repeating it while it raises `RetryableError`. Make at least one attempt.

    Args:
        attempt: raises `RetryableError` if it may be repeated.
        give_up_at: the time of `time.monotonic` at which the retry timeout is over.
        refresh: called with `RetryableError.lookup` before the next attempt.
        closed: an event that ends the retrying.

    Raises:
        StoreError: the reason of the last `RetryableError`, when the retry timeout is over.
        StoreUnavailable: `closed` was set during a delay.
    """
    delay_s = _MIN_RETRY_DELAY_S
    while True:
        try:
            return attempt()
        except RetryableError as error:
            if time.monotonic() + delay_s > give_up_at:
                raise error.reason from error.__cause__
            lookup = error.lookup
        refresh(lookup)
        if closed.wait(delay_s):
            raise StoreUnavailable("the store is closed")
        delay_s = min(2 * delay_s, _MAX_RETRY_DELAY_S)
