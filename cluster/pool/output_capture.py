"""Captures what a child prints while it trains, in one of two ways.

A worker that is alone in its process captures all that the process writes to its descriptors 1 and 2: from Python, from
C code and from subprocesses. The kernel has what was written, so that the last lines of a killed process are kept.

Where several workers train in one process (`--workers-per-process`), or the driver itself does (`--local`), descriptors
would mix the children up: there each thread captures what Python code prints in it, warnings and logging to the console
included.
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

from cluster.pool.output_buffer import CapturedOutput, OutputBuffer
from cluster.pool.output_files import Keep

Redirect = Callable[[OutputBuffer], AbstractContextManager[object]]
"""Sends what is printed into the buffer while the block lasts."""


class BufferedCapture:
    """Captures the output of one attempt after another: an `OutputCapture` through a file.

    Args:
        buffer: holds the output meanwhile. What an earlier process has left in it is kept first.
        redirect: `by_descriptor` or `by_thread`.
        keep: called for each attempt that printed anything, before its outcome is reported.
    """

    def __init__(self, buffer: OutputBuffer, redirect: Redirect, keep: Keep) -> None:
        self._buffer, self._redirect, self._keep_output = buffer, redirect, keep
        self._keep(buffer.recover())

    @contextmanager
    def __call__(self, child_id: int, key: str) -> Iterator[None]:
        """Capture what is printed while the block lasts; see `cluster.pool.output_files.OutputCapture`."""
        self._buffer.begin(child_id, key)
        try:
            with self._redirect(self._buffer):
                yield
        finally:
            self._keep(self._buffer.end())

    def truncate(self) -> None:
        """Call `OutputBuffer.truncate`."""
        self._buffer.truncate()

    def _keep(self, output: CapturedOutput | None) -> None:
        if output:
            self._keep_output(output.child_id, output.key, output.text)


@contextmanager
def by_descriptor(buffer: OutputBuffer) -> Iterator[None]:
    """Redirect all that this process writes to its descriptors 1 and 2.

    Python's streams have no buffers meanwhile: a process that is killed loses what is in them.
    """
    file = buffer.descriptor()
    if file is None:
        yield
        return
    _flush()
    before = {number: os.dup(number) for number in (1, 2)}
    streams = sys.stdout, sys.stderr
    unbuffered = _unbuffered(1, streams[0]), _unbuffered(2, streams[1])
    try:
        for number in before:
            os.dup2(file, number)
        sys.stdout, sys.stderr = unbuffered
        yield
    finally:
        if (sys.stdout, sys.stderr) == unbuffered:  # else other code has replaced them meanwhile
            sys.stdout, sys.stderr = streams
        _flush()
        for number, descriptor in before.items():
            os.dup2(descriptor, number)
            os.close(descriptor)


def _unbuffered(descriptor: int, stream: TextIO) -> TextIO:
    """Return a stream without a buffer that writes to the descriptor, in the encoding of another stream.

    The other one, which code may have kept, gets line buffers: `write_through` leaves out only one of its two buffers.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(line_buffering=True)
    encoding, errors = getattr(stream, "encoding", None), getattr(stream, "errors", None)
    raw: Any = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding=encoding or "utf-8", errors=errors or "replace", write_through=True)


def _flush() -> None:
    """Flush the buffers of Python and of C."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)


@contextmanager
def by_thread(buffer: OutputBuffer) -> Iterator[None]:
    """Redirect what Python code prints in this thread; needs `split_by_thread` around it."""
    thread = threading.get_ident()
    _SINKS[thread] = buffer
    try:
        yield
    finally:
        del _SINKS[thread]


_SINKS: dict[int, OutputBuffer] = {}
"""The buffer of each thread whose output is redirected, by the thread's number."""


@contextmanager
def split_by_thread() -> Iterator[None]:
    """Let `by_thread` redirect single threads' output, until the block ends."""
    before = sys.stdout, sys.stderr
    ours: tuple[Any, Any] = _Split(before[0]), _Split(before[1])
    sys.stdout, sys.stderr = ours
    try:
        yield
    finally:
        if (sys.stdout, sys.stderr) == ours:  # else other code has replaced them meanwhile
            sys.stdout, sys.stderr = before


class _Split:
    """A stream that writes to the thread's sink where it has one, else to the stream below."""

    def __init__(self, below: TextIO) -> None:
        self._below = below

    def write(self, text: str) -> int:
        """Write to the thread's sink or the stream below; see `TextIO.write`."""
        sink = _SINKS.get(threading.get_ident())
        if sink is None:
            return self._below.write(text)
        sink.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write all lines; see `TextIO.writelines`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)
