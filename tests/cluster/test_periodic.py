"""A look that is repeated: when it comes, what becomes of a failure, and that leaving the block is the end of it."""

import logging
import threading
import time

import pytest

from cluster.periodic import repeating

AGES_S = 3600.0


def test_it_looks_again_and_again_and_not_after_the_block() -> None:
    looks, thrice = [0], threading.Event()

    def look() -> None:
        looks[0] += 1
        if looks[0] == 3:
            thrice.set()

    with repeating(look, 0.001, name="test"):
        assert thrice.wait(30)
    there = looks[0]
    time.sleep(0.05)
    assert looks[0] == there


def test_a_pause_comes_first_unless_it_is_to_look_at_once() -> None:
    late, soon = threading.Event(), threading.Event()
    with repeating(late.set, AGES_S, name="late"), repeating(soon.set, AGES_S, name="soon", at_once=True):
        assert soon.wait(30)
        assert not late.is_set()


def test_leaving_the_block_waits_for_no_pause() -> None:
    began = time.monotonic()
    with repeating(lambda: None, AGES_S, name="test"):
        pass
    assert time.monotonic() - began < 30
    assert "test" not in {thread.name for thread in threading.enumerate()}


def test_the_block_ends_its_looks_however_it_is_left() -> None:
    with pytest.raises(KeyboardInterrupt), repeating(lambda: None, AGES_S, name="test"):
        raise KeyboardInterrupt
    assert "test" not in {thread.name for thread in threading.enumerate()}


def test_a_look_that_fails_is_logged_once_and_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    looks, again = [0], threading.Event()

    def look() -> None:
        looks[0] += 1
        if looks[0] == 4:
            again.set()
        raise ValueError(f"look {looks[0]}")

    with caplog.at_level(logging.WARNING), repeating(look, 0.001, name="a look of mine"):
        assert again.wait(30)
    (record,) = caplog.records
    assert record.getMessage().startswith("a look of mine has failed")
    assert record.exc_info
    assert str(record.exc_info[1]) == "look 1"


def test_the_look_that_is_under_way_is_waited_for() -> None:
    inside, done = threading.Event(), []

    def look() -> None:
        inside.set()
        time.sleep(0.2)
        done.append(True)

    with repeating(look, AGES_S, name="test", at_once=True):
        assert inside.wait(30)
    assert done


def test_a_look_that_hangs_is_left_behind_after_a_while() -> None:
    inside, free = threading.Event(), threading.Event()

    def look() -> None:
        inside.set()
        free.wait(60)

    began = time.monotonic()
    with repeating(look, AGES_S, name="test", at_once=True, leave_s=0.05):
        assert inside.wait(30)
    assert time.monotonic() - began < 30
    free.set()
