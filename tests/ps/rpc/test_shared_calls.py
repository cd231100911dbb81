import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ps.errors import NotDurable
from ps.rpc.shared_calls import SharedCalls
from tests.waiting import until


class Slow:
    """A call that waits until it is released; it returns its number and the member's name."""

    def __init__(self) -> None:
        self.made: list[list[str]] = []
        self.release = threading.Semaphore(0)
        self.fails = False

    def __call__(self, members: Sequence[str]) -> list[str]:
        self.made.append(list(members))
        number = len(self.made)
        assert self.release.acquire(timeout=10)
        if self.fails:
            raise NotDurable("the disk is full")
        return [f"{number}{member}" for member in members]


def gathered(calls: SharedCalls[str, str], kind: str) -> int:
    group = calls._gathering.get(kind)
    return len(group.members) if group else 0


def test_who_waits_for_a_call_shares_the_next_one():
    calls: SharedCalls[str, str] = SharedCalls()
    slow = Slow()
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(calls.call, "k", "a", slow)
        until(lambda: slow.made == [["a"]], timeout_s=10)
        others = []
        for count, member in enumerate("bcd", start=1):
            others.append(threads.submit(calls.call, "k", member, slow))
            until(lambda count=count: gathered(calls, "k") == count, timeout_s=10)
        assert slow.made == [["a"]], "nobody shares a call that has begun"
        slow.release.release()
        assert first.result(10) == "1a"
        until(lambda: slow.made == [["a"], ["b", "c", "d"]], timeout_s=10)
        late = threads.submit(calls.call, "k", "e", slow)
        until(lambda: gathered(calls, "k") == 1, timeout_s=10)
        slow.release.release(2)
        assert [one.result(10) for one in others] == ["2b", "2c", "2d"]
        assert late.result(10) == "3e"
    assert not calls._gathering
    assert not calls._turns


def test_kinds_do_not_wait_for_each_other():
    calls: SharedCalls[str, str] = SharedCalls()
    slow = Slow()
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(calls.call, "k", "a", slow)
        until(lambda: bool(slow.made), timeout_s=10)
        assert calls.call("other", "b", lambda members: [f"own {one}" for one in members]) == "own b"
        slow.release.release()
        assert held.result(10) == "1a"


def test_everybody_gets_an_error_of_their_own():
    calls: SharedCalls[str, str] = SharedCalls()
    slow = Slow()
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(calls.call, "k", "a", slow)
        until(lambda: bool(slow.made), timeout_s=10)
        others = []
        for count, member in enumerate("bc", start=1):
            others.append(threads.submit(calls.call, "k", member, slow))
            until(lambda count=count: gathered(calls, "k") == count, timeout_s=10)
        slow.fails = True
        slow.release.release(2)
        errors = [one.exception(10) for one in (first, *others)]
    assert [str(error) for error in errors] == ["the disk is full"] * 3
    assert all(isinstance(error, NotDurable) for error in errors)
    assert len({id(error) for error in errors}) == 3
    slow.fails = False
    slow.release.release()
    assert calls.call("k", "d", slow) == "3d", "an error ends nothing"


def test_an_exception_that_is_no_answer_leaves_nobody_waiting():
    calls: SharedCalls[str, str] = SharedCalls()
    slow = Slow()
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(calls.call, "k", "a", slow)
        until(lambda: bool(slow.made), timeout_s=10)

        def interrupted(_: Sequence[str]) -> list[str]:
            raise KeyboardInterrupt

        leads = threads.submit(calls.call, "k", "b", interrupted)
        until(lambda: gathered(calls, "k") == 1, timeout_s=10)
        follows = threads.submit(calls.call, "k", "c", slow)
        until(lambda: gathered(calls, "k") == 2, timeout_s=10)
        slow.release.release()
        assert first.result(10) == "1a"
        with pytest.raises(KeyboardInterrupt):
            leads.result(10)
        assert "has ended" in str(follows.exception(10))
