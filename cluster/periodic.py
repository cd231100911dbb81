"""A thread that looks again every few seconds while a block lasts. Standard library only."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger(__name__)


@contextmanager
def repeating(
    look: Callable[[], object], pause_s: float, *, name: str, at_once: bool = False, leave_s: float | None = None
) -> Iterator[None]:
    """Call `look` again and again, in a thread of its own, until the block is left.

    What a look raises ends nothing: it is logged, once, and the next look comes all the same.

    Args:
        look: one of them; the one that is under way when the block is left is waited for.
        pause_s: seconds before each.
        name: the thread's.
        at_once: no pause before the first.
        leave_s: seconds for which that last one is waited for; `None`: until it ends.
    """
    ended = threading.Event()

    def go_on() -> None:
        wait_s, failed = 0.0 if at_once else pause_s, False
        while not ended.wait(wait_s):
            wait_s = pause_s
            try:
                look()
            except Exception:  # whatever it is, it must not be the last look
                if not failed:
                    LOGGER.warning("%s has failed, and goes on; it is not told of again", name, exc_info=True)
                failed = True

    thread = threading.Thread(target=go_on, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(leave_s)
