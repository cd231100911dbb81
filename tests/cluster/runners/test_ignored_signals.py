"""Signals that were ignored before a search stay ignored, as `nohup` wants it."""

import os
import signal

import pytest

from cluster.runners.interruption import interruptible


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_was_ignored_does_not_stop_a_search(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
        signal.signal(number, signal.SIG_DFL)
        with pytest.raises(KeyboardInterrupt), interruptible():
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 1)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
