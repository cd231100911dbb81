import threading
import time

import pytest

from ps.errors import StoreUnavailable
from ps.rpc.retry import RetryableError, retry


def test_at_least_one_attempt_is_made_and_its_reason_raised():
    reason = StoreUnavailable("shard 0 is unavailable")
    refreshed: list[int] = []

    def attempt() -> int:
        raise RetryableError(reason, 7)

    with pytest.raises(StoreUnavailable, match="shard 0 is unavailable"):
        retry(attempt, 0.0, refreshed.append, threading.Event())
    assert refreshed == []
    with pytest.raises(StoreUnavailable, match="shard 0 is unavailable"):
        retry(attempt, time.monotonic() + 0.1, refreshed.append, threading.Event())
    assert refreshed == [7]
