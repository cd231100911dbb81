"""What the runs of a cluster want of its autoscaler, which keeps one list for them all. Pure. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass

REPEAT_S = 10.0
"""Seconds after which a driver that lives repeats what it wants."""

LASTS_S = 3 * REPEAT_S
"""Seconds for which a want counts that nobody repeats: its driver is no more, however it ended."""


@dataclass(frozen=True, slots=True)
class Want:
    """Room for processes that are all alike.

    Attributes:
        count: how many.
        resources: of each, by Ray's names, all on one node.
        selector: what the labels of its node must be, in Ray's words.
    """

    count: int
    resources: Mapping[str, float]
    selector: Mapping[str, str]


class Wants:
    """What each run wants. The times are seconds of one clock.

    Args:
        now: the time.
    """

    def __init__(self, now: float) -> None:
        self._wants: dict[str, tuple[Want, float]] = {}
        self._needed_until = now + LASTS_S

    def put(self, run: str, want: Want, now: float, lasts_s: float = LASTS_S) -> None:
        """A run wants this, instead of what it wanted before, for so long if it does not say so again."""
        self._wants[run] = want, now + lasts_s
        self._needed_until = now + LASTS_S

    def drop(self, run: str) -> None:
        """A run wants nothing any more."""
        self._wants.pop(run, None)

    def all(self, now: float) -> list[Want]:
        """What all runs together want."""
        self._wants = {run: (want, until) for run, (want, until) in self._wants.items() if now < until}
        return [want for want, _ in self._wants.values()]

    def over(self, now: float) -> bool:
        """Nothing is wanted, and nobody has wanted anything for a while."""
        return not self.all(now) and now >= self._needed_until
