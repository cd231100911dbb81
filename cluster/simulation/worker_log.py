"""The record of simulated workers: when each trained, and when it had no machine. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple


class BusyInterval(NamedTuple):
    """An interval in which a worker trained a child, in seconds since the start of the search.

    Attributes:
        child_id: the child.
        started_at, ended_at: the interval.
        useful_s: the part that contributed to an outcome.
    """

    child_id: int
    started_at: float
    ended_at: float
    useful_s: float


@dataclass(slots=True)
class WorkerLog:
    """The record of all workers.

    Attributes:
        intervals: the intervals of training, in the order of their ends.
        outages: start and end of each time without a machine; the end is infinite while it lasts.
        preemptions: number of preempted machines.
        interrupted: number of children that were in training on them.
        last_child_started_at: when the last child was first started.
    """

    intervals: list[BusyInterval] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    preemptions: int = 0
    interrupted: int = 0
    last_child_started_at: float = 0.0

    def outage_s(self, until: float) -> float:
        """Return the seconds, summed over workers, without a machine, up to a time."""
        return sum(min(back, until) - gone for gone, back in self.outages if gone < until)

    def busy_s(self, until: float) -> float:
        """Return the seconds, summed over workers, of training, useful or lost, up to a time."""
        return sum(min(s.ended_at, until) - s.started_at for s in self.intervals if s.started_at < until)

    def useful_s(self, until: float) -> float:
        """Return the seconds of training up to a time that contribute to outcomes, then or later."""
        return sum(min(s.useful_s, until - s.started_at) for s in self.intervals if s.started_at < until)

    def write_off(self, failed: Collection[int]) -> None:
        """Count the training of these failed children as lost, saved or not."""
        self.intervals = [s._replace(useful_s=0.0) if s.child_id in failed else s for s in self.intervals]
