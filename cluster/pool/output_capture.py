"""Takes what a child prints while it trains, in two ways.

A worker that is alone in its process takes all that the process writes to its descriptors 1 and 2: by Python, by C code
and by processes of its own. The kernel has what was written, so that a process that is killed leaves its last words.

Where several train in one process (`--workers-per-process`), or the driver itself does (`--local`), descriptors would
mix them up: there each takes what Python code prints in its own thread, warnings and logging to the console included.
"""

import contextlib
import ctypes
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TextIO

from cluster.pool.output_buffer import Scratch, Taken
from cluster.pool.output_files import Keep

Redirect = Callable[[Scratch], AbstractContextManager[object]]
"""Sends what is printed into the file while the block lasts."""


class Capture:
    """Takes the output of one attempt after another; see `cluster.pool.output_files.Takes`.

    Args:
        scratch: where it goes meanwhile. What a process before this one has left there is kept first.
        redirect: `by_descriptor` or `by_thread`.
        keep: told of each attempt that printed anything, before its outcome is known to anybody.
    """

    def __init__(self, scratch: Scratch, redirect: Redirect, keep: Keep) -> None:
        self._scratch, self._redirect, self._keep = scratch, redirect, keep
        self._hand_on(scratch.left_behind())

    @contextmanager
    def __call__(self, child_id: int, key: str) -> Iterator[None]:
        """See `cluster.pool.output_files.Takes`."""
        self._scratch.begin(child_id, key)
        try:
            with self._redirect(self._scratch):
                yield
        finally:
            self._hand_on(self._scratch.end())

    def cut(self) -> None:
        """See `Scratch.cut`."""
        self._scratch.cut()

    def _hand_on(self, taken: Taken | None) -> None:
        if taken:
            self._keep(taken.child_id, taken.key, taken.text)


@contextmanager
def by_descriptor(scratch: Scratch) -> Iterator[None]:
    """All that this process writes to its descriptors 1 and 2."""
    file = scratch.descriptor()
    if file is None:
        yield
        return
    _flush()
    before = {number: os.dup(number) for number in (1, 2)}
    try:
        for number in before:
            os.dup2(file, number)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(write_through=True)  # what waits in a buffer dies with the process
        yield
    finally:
        _flush()
        for number, descriptor in before.items():
            os.dup2(descriptor, number)
            os.close(descriptor)


def _flush() -> None:
    """Write out what waits in Python's buffers and in those of C."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)


@contextmanager
def by_thread(scratch: Scratch) -> Iterator[None]:
    """What Python code prints in this thread; needs `split_by_thread` around it."""
    thread = threading.get_ident()
    _TAKERS[thread] = scratch
    try:
        yield
    finally:
        del _TAKERS[thread]


_TAKERS: dict[int, Scratch] = {}
"""By thread, who takes what it prints."""


@contextmanager
def split_by_thread() -> Iterator[None]:
    """Let threads have takers of their own, until the block is left."""
    before = sys.stdout, sys.stderr
    ours: tuple[Any, Any] = _Split(before[0]), _Split(before[1])
    sys.stdout, sys.stderr = ours
    try:
        yield
    finally:
        if (sys.stdout, sys.stderr) == ours:  # else somebody has put others in their place
            sys.stdout, sys.stderr = before


class _Split:
    """A stream that is the one below it, but for what is written in a thread that has a taker."""

    def __init__(self, below: TextIO) -> None:
        self._below = below

    def write(self, text: str) -> int:
        """See `TextIO.write`."""
        taker = _TAKERS.get(threading.get_ident())
        if taker is None:
            return self._below.write(text)
        taker.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """See `TextIO.writelines`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)
