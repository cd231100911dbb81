"""A worker's process: trains one child at a time, gives signs of life, and keeps its last outcome. Knows no Ray."""

import contextlib
import faulthandler
import json
import os
import signal
import threading
from collections.abc import Callable, Collection, Sequence
from io import FileIO
from pathlib import Path
from types import FrameType

from child_trainer.outcome import Outcome
from cluster.periodic import PeriodicThread
from cluster.pool.output_capture import Capture
from cluster.pool.output_files import untaken
from cluster.pool.protocol import Death, NotBegun, Order, Report
from cluster.search.evaluator import Trains

BEAT_S = 2.0
"""Seconds between two signs of life."""

LONGEST_LAST_WORDS = 10_000
"""Characters of what a dying process leaves behind."""

Beat = Callable[[str, str | None], bool]
"""Told the place and the attempt; answers whether the child is to be given back. May raise when nobody listens."""


class LastWords:
    """Where a process writes what it is at and how it dies, for the next one to read that has its workers on its node.

    The file's first line is JSON: the places of its workers in their order, each with the attempt that it began last.
    The rest is what Python writes when the process dies of a fault. It need not outlive the machine.

    Args:
        path: the file, which processes with other workers, of any run, must not share.
        places: of this process's workers. If it dies of a fault, Python writes the stack to the file from now on.
    """

    def __init__(self, path: Path, places: Sequence[str]) -> None:
        self._path = path
        self._deaths = dict(zip(places, take_deaths(path), strict=False))
        self._begun: dict[str, str | None] = dict.fromkeys(places)
        self._lock = threading.Lock()
        try:
            self._file = self._path.open("wb", buffering=0)
        except OSError:  # a full disk keeps no worker from its work
            self._file = None
            return
        self._write(self._file)
        faulthandler.enable(self._file, all_threads=False)

    def before(self, place: str) -> Death | None:
        """What became of the worker that had this one's slot in the last process, or `None` if nothing is known."""
        return self._deaths.get(place)

    def note(self, place: str, key: str) -> None:
        """The worker at `place` begins the attempt `key`."""
        with self._lock:
            self._begun[place] = key
            if self._file:
                self._write(self._file)

    def _write(self, file: FileIO) -> None:
        line = f"{json.dumps(list(self._begun.items()))}\n".encode()
        number = file.fileno()
        try:
            if os.pwrite(number, line, 0) < len(line):  # one call, as the process may die between any two
                raise OSError("the disk is full")
            os.ftruncate(number, len(line))
            os.lseek(number, 0, os.SEEK_END)  # where the stack goes
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()  # nothing is better than what is wrong


def take_deaths(path: Path) -> tuple[Death, ...]:
    """What the process that wrote this file has left of each of its workers; nothing when asked again."""
    try:
        line, _, words = path.read_text(errors="replace").partition("\n")
        path.unlink()
        begun = json.loads(line)
    except (OSError, ValueError):
        return ()
    # Python adds a long list of the extension modules that were loaded.
    words = words.partition("\nExtension modules:")[0][:LONGEST_LAST_WORDS].strip()
    return tuple(Death(place=place, key=key, words=words) for place, key in begun)


class WorkerProcess:
    """The one of a slot at a time.

    Args:
        trainer: trains a child.
        place: names this process, unlike any other.
        node: the id of its node.
        beat: carries a sign of life, from a thread of its own.
        beat_s: seconds between two of them.
        last_words: says what became of the worker of the process before, and is told what this one begins.
        capture: takes what the children print.
    """

    def __init__(
        self,
        trainer: Trains,
        *,
        place: str,
        node: str,
        beat: Beat,
        beat_s: float = BEAT_S,
        last_words: LastWords | None = None,
        capture: Capture | None = None,
    ) -> None:
        self._capture = capture
        self._trainer, self._place, self._node, self._beat = trainer, place, node, beat
        self._last_words = last_words
        self._trained = 0
        self._key: str | None = None
        self._last: tuple[str, Outcome] | None = None
        self._asked_back: str | None = None
        self._told_to_go = threading.Event()
        PeriodicThread(self._send_beat, beat_s, name="beat").start()

    def report(self) -> Report:
        """What there is to say between two children."""
        key, outcome = self._last or (None, None)
        return Report(
            place=self._place,
            node=self._node,
            trained=self._trained,
            key=key,
            outcome=outcome,
            death=self._last_words.before(self._place) if self._last_words else None,
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
                self._last_words.note(self._place, order.key)
            with (self._capture or untaken)(order.assignment.child_id, order.key):
                outcome = self._trainer.train(order.assignment, batch_size=order.batch_size, preempted=self._preempted)
        finally:
            self._key = None
        self._last = order.key, outcome
        self._trained += 1
        return outcome

    @property
    def busy(self) -> bool:
        """Whether a child is in training."""
        return self._key is not None

    def tell_to_go(self) -> None:
        """From now on every child is saved and given back at its next step."""
        self._told_to_go.set()

    def _preempted(self) -> bool:
        return self._asked_back == self._key or self._told_to_go.is_set()

    def _send_beat(self) -> None:
        key = self._key
        if self._capture:
            self._capture.cut()
        try:
            give_back = self._beat(self._place, key)
        except Exception:  # the pool is being started again: it will ask the workers itself
            return
        if give_back:
            self._asked_back = key  # the attempt, as another may have begun since


def leave_on_sigterm(workers: Collection[WorkerProcess]) -> None:
    """From now on SIGTERM has the children in training saved and given back; without one it ends the process.

    Only the main thread may call this.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        if not any(worker.busy for worker in workers):
            raise SystemExit(128 + number)
        for worker in workers:
            worker.tell_to_go()

    signal.signal(signal.SIGTERM, leave)
