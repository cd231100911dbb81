"""A worker's process: trains a child, or several seeds as one, sends heartbeats, and keeps its last outcomes.

Knows no Ray.
"""

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
from cluster.pool.output_capture import BufferedCapture
from cluster.pool.output_files import no_capture
from cluster.pool.protocol import FusionRefused, NotStarted, ProcessExit, Report, TrainingOrder
from cluster.pool.supervision import Gpu
from cluster.search.evaluator import ChildTrainer, SeedsTrainer

HEARTBEAT_INTERVAL_S = 2.0
"""Seconds between two heartbeats."""

MAX_CRASH_CHARACTERS = 10_000
"""Characters that are kept of what Python writes when a process crashes."""

Beat = Callable[[str, str | None], bool]
"""Sends a heartbeat with the place and the attempt's key; returns whether the child must be given back.

May raise an exception while the pool is unavailable.
"""


class CrashFile:
    """The file in which a process records its attempts and how it crashes, for the next process of its workers.

    The file's first line is JSON: the places of its workers in their order, each with the attempt that it started last.
    The rest is what Python writes when the process crashes. The file need not survive the machine.

    Args:
        path: the file, which processes with other workers, of any run, must not share.
        places: of this process's workers. From now on Python writes the stack of a crash to the file.
    """

    def __init__(self, path: Path, places: Sequence[str]) -> None:
        self._path = path
        self._exits = dict(zip(places, take_exits(path), strict=False))
        self._started = {place: json.dumps([place, None]) for place in places}
        self._lock = threading.Lock()
        try:
            self._file = self._path.open("wb", buffering=0)
        except OSError:  # a worker can train on a full disk, too
            self._file = None
            return
        self._write(self._file)
        faulthandler.enable(self._file, all_threads=False)

    def previous_exit(self, place: str) -> ProcessExit | None:
        """Return how the last process ended for the worker of the same slot as this one, or `None` if unknown."""
        return self._exits.get(place)

    def note(self, place: str, key: str) -> None:
        """Record that the worker at `place` starts the attempt `key`."""
        with self._lock:
            self._started[place] = json.dumps([place, key])
            if self._file:
                self._write(self._file)

    def _write(self, file: FileIO) -> None:
        line = f"[{', '.join(self._started.values())}]\n".encode()
        number = file.fileno()
        try:
            if os.pwrite(number, line, 0) < len(line):  # one call, as the process may be killed between any two
                raise OSError("the disk is full")
            os.ftruncate(number, len(line))
            os.lseek(number, 0, os.SEEK_END)  # the stack is written here
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()  # no file is better than a wrong one


def take_exits(path: Path) -> tuple[ProcessExit, ...]:
    """Return how the process that wrote this file ended, for each of its workers, and remove the file."""
    try:
        line, _, message = path.read_text(errors="replace").partition("\n")
        path.unlink()
        started = json.loads(line)
    except (OSError, ValueError):
        return ()
    # Python adds a long list of the extension modules that were loaded.
    message = message.partition("\nExtension modules:")[0][:MAX_CRASH_CHARACTERS].strip()
    return tuple(ProcessExit(place=place, key=key, message=message) for place, key in started)


class WorkerProcess:
    """The process of one slot.

    Args:
        trainer: trains a child.
        place: names this process, and no other.
        node: the id of its node.
        beat: sends a heartbeat; called in a thread of its own.
        beat_s: seconds between two heartbeats.
        crash_file: says how the process before this one ended, and records the attempts that this one starts.
        capture: captures what the children print.
        gpu: that it trains on, where children get parts of one.
        limit_gpu: called before each child with the memory that the process may allocate on its GPU, if the order
            says so.
        seeds: trains several seeds of one architecture as one network; `None`: no order has several.
    """

    def __init__(  # noqa: PLR0913  (all but the first four are options)
        self,
        trainer: ChildTrainer,
        *,
        place: str,
        node: str,
        beat: Beat,
        beat_s: float = HEARTBEAT_INTERVAL_S,
        crash_file: CrashFile | None = None,
        capture: BufferedCapture | None = None,
        gpu: Gpu | None = None,
        limit_gpu: Callable[[int], None] | None = None,
        seeds: SeedsTrainer | None = None,
    ) -> None:
        self._seeds = seeds
        self._capture, self._gpu, self._limit_gpu = capture, gpu, limit_gpu
        self._trainer, self._place, self._node, self._beat = trainer, place, node, beat
        self._crash_file = crash_file
        self._trained = 0
        self._key: str | None = None
        self._last: tuple[str, tuple[Outcome, ...]] | None = None
        self._preempted_key: str | None = None
        self._terminating = threading.Event()
        PeriodicThread(self._send_beat, beat_s, name="beat").start()

    def report(self) -> Report:
        """Return the worker's report; must not be called while a child is in training."""
        key, outcomes = self._last or (None, ())
        return Report(
            place=self._place,
            node=self._node,
            trained=self._trained,
            key=key,
            outcomes=outcomes,
            previous_exit=self._crash_file.previous_exit(self._place) if self._crash_file else None,
            gpu=self._gpu,
        )

    def train(self, order: TrainingOrder) -> tuple[Outcome, ...]:
        """Train the order's child, or its children as one network, and return the outcome of each.

        They are kept until the next order begins, in case the answer is lost.

        Raises:
            NotStarted: the order was for the process before this one.
            FusionRefused: each of the children is to be trained alone.
        """
        if order.place != self._place:
            raise NotStarted(f"{self._place} is not {order.place}")
        if order.others and (reason := self._why_alone(order)):
            raise FusionRefused(reason)
        self._last, self._key = None, order.key
        try:
            if self._crash_file:
                self._crash_file.note(self._place, order.key)
            if self._limit_gpu and order.gpu_limit_bytes is not None:
                self._limit_gpu(order.gpu_limit_bytes)
            with (self._capture or no_capture)(order.assignment.child_id, order.key):
                outcomes = self._outcomes(order)
        finally:
            self._key = None
        self._last = order.key, outcomes
        self._trained += len(outcomes)
        return outcomes

    def _why_alone(self, order: TrainingOrder) -> str | None:
        return self._seeds.why_alone(order.assignment) if self._seeds else "the worker trains every child alone"

    def _outcomes(self, order: TrainingOrder) -> tuple[Outcome, ...]:
        if order.others:
            assert self._seeds is not None
            return tuple(self._seeds.train_together(order.assignments, preempted=self._preempted))
        return (self._trainer.train(order.assignment, batch_size=order.batch_size, preempted=self._preempted),)

    @property
    def busy(self) -> bool:
        """Whether a child is in training."""
        return self._key is not None

    def terminate(self) -> None:
        """Preempt every child from now on: it is saved and given back at its next step."""
        self._terminating.set()

    def _preempted(self) -> bool:
        return self._preempted_key == self._key or self._terminating.is_set()

    def _send_beat(self) -> None:
        key = self._key
        if self._capture:
            self._capture.truncate()
        try:
            give_back = self._beat(self._place, key)
        except Exception:  # the pool is being started again: it will request the workers' reports itself
            return
        if give_back:
            self._preempted_key = key  # the attempt's key, as another may have started since


def preempt_on_sigterm(workers: Collection[WorkerProcess]) -> None:
    """Have SIGTERM preempt the children in training; in an idle process it ends the process.

    Only the main thread may call this.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if not any(worker.busy for worker in workers):
            raise SystemExit(128 + number)
        for worker in workers:
            worker.terminate()

    signal.signal(signal.SIGTERM, handle)
