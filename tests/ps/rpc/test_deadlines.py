"""Requests that take too long are given up, and no others."""

import threading

import pytest

from ps.rpc.deadlines import Deadlines

SOON_S = 10.0


class Request:
    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


def test_only_what_is_overdue_and_under_way_is_given_up():
    now = [0.0]
    deadlines = Deadlines(0.5, clock=lambda: now[0])
    old, ended, young = Request(), Request(), Request()
    with deadlines.limit(ended):
        pass
    with deadlines.limit(old):
        now[0] = 0.4
        with deadlines.limit(young):
            now[0] = 0.5
            assert old.cancelled.wait(SOON_S)
            assert not young.cancelled.wait(0.3)
            now[0] = 0.9
            assert young.cancelled.wait(SOON_S)
    assert not ended.cancelled.is_set()
    deadlines.close()


def test_nothing_is_given_up_after_closing():
    now = [0.0]
    deadlines = Deadlines(0.1, clock=lambda: now[0])
    request = Request()
    with deadlines.limit(request):
        deadlines.close()
        now[0] = 1.0
        assert not request.cancelled.wait(0.3)


@pytest.mark.parametrize("limit_s", [0.0, -1.0, float("nan")])
def test_the_limit_must_be_above_0(limit_s: float):
    with pytest.raises(ValueError, match="must be above 0, got"):
        Deadlines(limit_s)
