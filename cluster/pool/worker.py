"""A worker's process: trains one child at a time, gives signs of life, and keeps its last outcome. Knows no Ray."""

import faulthandler
import signal
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import IO

from child_trainer.outcome import Outcome
from cluster.evaluator import Trains
from cluster.pool.crew import NotBegun, Order, Report

BEAT_S = 2.0
"""Seconds between two signs of life."""

LONGEST_LAST_WORDS = 10_000
"""Characters of what a dying process leaves behind."""

Beat = Callable[[str, str | None], bool]
"""Told the place and the attempt; answers whether the child is to be given back. May raise when nobody listens."""


class WorkerProcess:
    """The one of a slot at a time.

    Args:
        trainer: trains a child.
        place: names this process, unlike any other.
        node: the id of its node.
        beat: carries a sign of life, from a thread of its own.
        beat_s: seconds between two of them.
        last_words: what the process before it left behind.
    """

    def __init__(
        self, trainer: Trains, *, place: str, node: str, beat: Beat, beat_s: float = BEAT_S, last_words: str = ""
    ) -> None:
        self._trainer, self._place, self._node, self._beat = trainer, place, node, beat
        self._beat_s, self._last_words = beat_s, last_words
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
            last_words=self._last_words,
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

    def _keep_beating(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._beat_s):
            key = self._key
            try:
                give_back = self._beat(self._place, key)
            except Exception:  # the pool is being started again: it will ask the workers itself
                continue
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


class LastWords:
    """Where a process writes how it dies, for the next one at the same slot on the same node to read.

    Args:
        path: the slot's file, which no other slot of any run may share.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def take(self) -> str:
        """What the last process left, and nothing when asked again."""
        try:
            text = self._path.read_text(errors="replace")
            self._path.unlink()
        except OSError:
            return ""
        # Python adds a long list of the extension modules that were loaded.
        return text.partition("\nExtension modules:")[0][:LONGEST_LAST_WORDS].strip()

    def record(self) -> None:
        """Have Python write the stack there if this process dies of a fault such as a segmentation violation."""
        self._file = self._path.open("w")
        faulthandler.enable(self._file, all_threads=False)
