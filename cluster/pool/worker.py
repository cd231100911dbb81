"""A worker's process: trains one child at a time, gives signs of life, and keeps its last outcome. Knows no Ray."""

import contextlib
import faulthandler
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO

from child_trainer.outcome import Outcome
from cluster.evaluator import Trains
from cluster.pool.crew import Death, NotBegun, Order, Report

BEAT_S = 2.0
"""Seconds between two signs of life."""

LONGEST_LAST_WORDS = 10_000
"""Characters of what a dying process leaves behind."""

Beat = Callable[[str, str | None], bool]
"""Told the place and the attempt; answers whether the child is to be given back. May raise when nobody listens."""


class LastWords:
    """Where a process writes what it is at and how it dies, for the next one at the same slot on the same node to read.

    The file's first line is the process's place, the second the attempt that it began last, and the rest is what Python
    writes when the process dies of a fault. It need not outlive the machine, and is not fsynced.

    Args:
        path: the slot's file, which no other slot of any run may share.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._place = ""

    def take(self) -> Death | None:
        """What the last process left, and nothing when asked again."""
        try:
            text = self._path.read_text(errors="replace")
            self._path.unlink()
        except OSError:
            return None
        place, _, rest = text.partition("\n")
        key, _, words = rest.partition("\n")
        # Python adds a long list of the extension modules that were loaded.
        words = words.partition("\nExtension modules:")[0][:LONGEST_LAST_WORDS].strip()
        return Death(place=place, key=key or None, words=words) if place else None

    def record(self, place: str) -> None:
        """This process is `place`, and is at nothing yet; if it dies of a fault, Python writes the stack there."""
        self._place = place
        try:
            self._file = self._path.open("wb", buffering=0)
        except OSError:  # a full disk keeps no worker from its work
            return
        self._write("")
        faulthandler.enable(self._file, all_threads=False)

    def note(self, key: str) -> None:
        """The attempt `key` begins."""
        if self._file:
            self._write(key)

    def _write(self, key: str) -> None:
        assert self._file is not None
        lines = f"{self._place}\n{key}\n".encode()
        number = self._file.fileno()
        try:
            if os.pwrite(number, lines, 0) < len(lines):  # one call, as the process may die between any two
                raise OSError("the disk is full")
            os.ftruncate(number, len(lines))
            os.lseek(number, 0, os.SEEK_END)  # where the stack goes
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()  # nothing is better than what is wrong


class WorkerProcess:
    """The one of a slot at a time.

    Args:
        trainer: trains a child.
        place: names this process, unlike any other.
        node: the id of its node.
        beat: carries a sign of life, from a thread of its own.
        last_words: where the process before it has left what became of it, and where this one does.
    """

    def __init__(
        self, trainer: Trains, *, place: str, node: str, beat: Beat, last_words: LastWords | None = None
    ) -> None:
        self._trainer, self._place, self._node, self._beat = trainer, place, node, beat
        self._last_words = last_words
        self._death = last_words.take() if last_words else None
        if last_words:
            last_words.record(place)
        self._trained = 0
        self._key: str | None = None
        self._last: tuple[str, Outcome] | None = None
        self._asked_back: str | None = None
        self._told_to_go = threading.Event()
        threading.Thread(target=self._keep_beating, name="beat", daemon=True).start()

    def report(self) -> Report:
        """What there is to say between two children."""
        key, outcome = self._last or (None, None)
        return Report(
            place=self._place,
            node=self._node,
            trained=self._trained,
            key=key,
            outcome=outcome,
            death=self._death,
        )

    def train(self, order: Order) -> Outcome:
        """Train one child; its outcome is kept until the next one begins, should the answer be lost.

        Raises:
            NotBegun: the order was meant for the process before this one.
        """
        if order.place != self._place:
            raise NotBegun(f"{self._place} is not {order.place}")
        self._last, self._key = None, order.key
        try:
            if self._last_words:
                self._last_words.note(order.key)
            outcome = self._trainer.train(order.assignment, batch_size=order.batch_size, preempted=self._preempted)
        finally:
            self._key = None
        self._last = order.key, outcome
        self._trained += 1
        return outcome

    def leave_on_sigterm(self) -> None:
        """From now on SIGTERM has the child in training saved and given back; without one it ends the process.

        Only the main thread may call this.
        """

        def leave(number: int, frame: FrameType | None) -> None:
            if self._key is None:
                raise SystemExit(128 + number)
            self._told_to_go.set()

        signal.signal(signal.SIGTERM, leave)

    def _preempted(self) -> bool:
        return self._asked_back == self._key or self._told_to_go.is_set()

    def _keep_beating(self) -> None:
        pause = threading.Event()
        while not pause.wait(BEAT_S):
            key = self._key
            try:
                give_back = self._beat(self._place, key)
            except Exception:  # the pool is being started again: it will ask the workers itself
                continue
            if give_back:
                self._asked_back = key  # the attempt, as another may have begun since
