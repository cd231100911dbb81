"""Periodic threads: when calls are made, what an error does, and how the thread stops."""

import logging
import threading
import time

import pytest

from cluster.periodic import PeriodicThread, repeating

AGES_S = 3600.0


def test_calls_repeat_until_the_block_ends() -> None:
    calls, thrice = [0], threading.Event()

    def action() -> None:
        calls[0] += 1
        if calls[0] == 3:
            thrice.set()

    with repeating(action, 0.001, name="test"):
        assert thrice.wait(30)
    made = calls[0]
    time.sleep(0.05)
    assert calls[0] == made


def test_the_first_call_waits_unless_it_is_wanted_at_once() -> None:
    late, soon = threading.Event(), threading.Event()
    with repeating(late.set, AGES_S, name="late"), repeating(soon.set, AGES_S, name="soon", at_once=True):
        assert soon.wait(30)
        assert not late.is_set()


def test_leaving_the_block_does_not_wait_for_the_interval() -> None:
    began = time.monotonic()
    with repeating(lambda: None, AGES_S, name="test"):
        pass
    assert time.monotonic() - began < 30
    assert "test" not in {thread.name for thread in threading.enumerate()}


def test_an_error_in_the_block_stops_the_thread() -> None:
    with pytest.raises(KeyboardInterrupt), repeating(lambda: None, AGES_S, name="test"):
        raise KeyboardInterrupt
    assert "test" not in {thread.name for thread in threading.enumerate()}


def test_the_first_error_is_logged_and_calls_go_on(caplog: pytest.LogCaptureFixture) -> None:
    calls, again = [0], threading.Event()

    def action() -> None:
        calls[0] += 1
        if calls[0] == 4:
            again.set()
        raise ValueError(f"call {calls[0]}")

    with caplog.at_level(logging.WARNING), repeating(action, 0.001, name="my action"):
        assert again.wait(30)
    (record,) = caplog.records
    assert record.getMessage().startswith("my action failed")
    assert record.exc_info
    assert str(record.exc_info[1]) == "call 1"


def test_leaving_the_block_waits_for_the_call_in_progress() -> None:
    inside, done = threading.Event(), []

    def action() -> None:
        inside.set()
        time.sleep(0.2)
        done.append(True)

    with repeating(action, AGES_S, name="test", at_once=True):
        assert inside.wait(30)
    assert done


def test_a_call_that_hangs_is_abandoned_after_the_timeout() -> None:
    inside, free = threading.Event(), threading.Event()

    def action() -> None:
        inside.set()
        free.wait(60)

    began = time.monotonic()
    with repeating(action, AGES_S, name="test", at_once=True, stop_timeout_s=0.05):
        assert inside.wait(30)
    assert time.monotonic() - began < 30
    free.set()


def test_a_thread_that_was_never_started_can_be_stopped() -> None:
    PeriodicThread(lambda: None, AGES_S, name="test").stop()
