"""A virtual clock, and an evaluator on it: workers that let time pass and train at once. Neither Ray nor a real clock.

The loop of the replicas, the searcher, the ledger and the shards are the real ones: a whole search of hundreds of
workers takes as long as that code does. With the pool as well, and what may be lost: `cluster/simulation/`.
"""

import asyncio
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from child_trainer.outcome import Outcome
from cluster.evaluator import Assignment, Trains

T = TypeVar("T")

PAUSE_S = 0.5
"""Virtual seconds after which a replica that is ahead of the others asks again whether it may go on."""


class Events:
    """What is due when; of what is due at one time, what was planned first comes first."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._soon: deque[Callable[[], None]] = deque()
        self._order = itertools.count()
        self.now = 0.0
        """Seconds since the start."""

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Plan an action for so many seconds from now."""
        heapq.heappush(self._due, (self.now + seconds, next(self._order), action))

    def soon(self, action: Callable[[], None]) -> None:
        """Plan an action for now, before anything else that is planned with `after`."""
        self._soon.append(action)

    def advance(self) -> bool:
        """Go on to the next thing that is due, and do it; false if there is none."""
        if self._soon:
            self._soon.popleft()()
            return True
        if not self._due:
            return False
        self.now, _, action = heapq.heappop(self._due)
        action()
        return True


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop over such events, on which what is written for a real clock sleeps in virtual time.

    It waits for nothing outside of itself: whoever sleeps is woken at once, at the time that it asked for.
    """

    def __init__(self, events: Events) -> None:
        super().__init__()
        self._events = events

    def time(self) -> float:
        """Seconds since the start."""
        return self._events.now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.AbstractEventLoop`."""
        handle = asyncio.Handle(callback, args, self, context)
        self._events.soon(_carrying_out(handle, callback, args, context))
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See `asyncio.AbstractEventLoop`."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._events.after(max(0.0, when - self._events.now), _carrying_out(handle, callback, args, context))
        return handle

    def carry_out(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work, and all that it has others do meanwhile; what is left of that then is cancelled.

        Raises:
            RuntimeError: it waits for what can never come.
        """
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(work)
            self._advance_until(task)
            return task.result()
        finally:
            for left in asyncio.all_tasks(self):
                left.cancel()
                self._advance_until(left)
            asyncio._set_running_loop(None)

    def _advance_until(self, task: asyncio.Task[Any]) -> None:
        while not task.done():
            if not self._events.advance():
                raise RuntimeError(f"{task.get_name()} waits, and nothing is due any more")


def _carrying_out(
    handle: asyncio.Handle, callback: Callable[..., object], args: Sequence[Any], context: contextvars.Context | None
) -> Callable[[], None]:
    run = callback if context is None else lambda *args: context.run(callback, *args)

    def carry_out() -> None:
        if not handle.cancelled():
            run(*args)

    return carry_out


@dataclass(frozen=True, slots=True)
class Training:
    """A child's time at a worker, in seconds since the start."""

    child_id: int
    replica: int
    queued_at: float
    began_at: float
    ended_at: float


class SimulatedEvaluator:
    """One replica's view of the workers; see `cluster.evaluator.Evaluator`."""

    def __init__(self, submit: Callable[[Assignment], None]) -> None:
        self._submit = submit
        self._ready: list[tuple[int, Outcome]] = []
        self.waits = False
        """The last look was in vain: nothing happens at this replica until it is woken."""

    def submit(self, assignment: Assignment) -> None:
        """Hand the child to the workers."""
        self._submit(assignment)

    def completed(self) -> list[tuple[int, Outcome]]:
        """The children that have ended by now; does not wait, as that is for whoever moves the clock."""
        found, self._ready = self._ready, []
        self.waits = not found
        return found

    def give(self, child_id: int, outcome: Outcome) -> None:
        """The child has ended."""
        self._ready.append((child_id, outcome))


class SimulatedWorkers:
    """Workers that train one child at a time, first come, first served, as the pool hands them out.

    Args:
        workers: how many.
        trainer: says what a child's training gives; asked when it begins.
        seconds: how long it takes a worker, virtually.

    Attributes:
        trainings: those that have ended, in the order of their ends.
    """

    def __init__(self, workers: int, trainer: Trains, seconds: Callable[[Assignment, Outcome], float]) -> None:
        self._free, self._trainer, self._seconds = workers, trainer, seconds
        self._events = Events()
        self._queue: deque[tuple[int, Assignment, float]] = deque()  # replica, child, since when
        self._evaluators: list[SimulatedEvaluator] = []
        self._woken: deque[int] = deque()
        self.trainings: list[Training] = []

    def clock(self) -> float:
        """Virtual seconds since the start."""
        return self._events.now

    def evaluator(self) -> SimulatedEvaluator:
        """Another replica's evaluator."""
        replica = len(self._evaluators)
        self._evaluators.append(SimulatedEvaluator(lambda assignment: self._take(replica, assignment)))
        return self._evaluators[replica]

    def pause(self, replica: int) -> None:
        """The replica must wait for others; for `cluster.replica.Replica.pause`."""
        self._evaluators[replica].waits = True
        self._events.after(PAUSE_S, lambda: self._wake(replica))

    def run(self, loops: Sequence[Iterator[None]]) -> None:
        """Drive the replicas' loops to their ends, each with the evaluator of its place. What they do takes no time.

        Raises:
            RuntimeError: all wait, and nothing is in training.
        """
        left = set(range(len(loops)))
        self._woken.extend(left)
        while left:
            if not self._woken and not self._events.advance():
                raise RuntimeError(f"the replicas {sorted(left)} wait, and nothing is in training")
            while self._woken:
                replica = self._woken.popleft()
                if replica in left and not self._go_on(replica, loops[replica]):
                    left.remove(replica)

    def advance(self) -> bool:
        """Go on to the next thing that is due, for one who drives the loop by hand; false if there is none."""
        return self._events.advance()

    def _go_on(self, replica: int, loop: Iterator[None]) -> bool:
        """Whether the loop waits for something now; else it has come to its end."""
        evaluator = self._evaluators[replica]
        evaluator.waits = False
        return any(evaluator.waits for _ in loop)

    def _wake(self, replica: int) -> None:
        if self._evaluators[replica].waits:
            self._evaluators[replica].waits = False
            self._woken.append(replica)

    def _take(self, replica: int, assignment: Assignment) -> None:
        self._queue.append((replica, assignment, self._events.now))
        self._begin()

    def _begin(self) -> None:
        if self._free and self._queue:
            self._free -= 1
            replica, assignment, queued_at = self._queue.popleft()
            outcome = self._trainer.train(assignment)
            took, began_at = self._seconds(assignment, outcome), self._events.now

            def end() -> None:
                self._free += 1
                self.trainings.append(Training(assignment.child_id, replica, queued_at, began_at, self._events.now))
                self._begin()
                self._evaluators[replica].give(assignment.child_id, outcome)
                self._wake(replica)

            self._events.after(took, end)


def utilisation(trainings: Sequence[Training], workers: int, until: float) -> float:
    """The share of the workers' time from the start `until` then in which they trained children."""
    busy = sum(min(t.ended_at, until) - t.began_at for t in trainings if t.began_at < until)
    return busy / (workers * until)


def last_begun(trainings: Sequence[Training]) -> float:
    """When the last child came into training: after that there is too little to do for all."""
    return max(t.began_at for t in trainings)
