"""When others are started for workers that were lost, and which nodes those should rather not come to. Pure."""

from dataclasses import dataclass, field

FIRST_S = 10.0
"""Seconds before another worker is started for one that was lost; twice as many each time that is lost, too."""

MOST_S = 300.0
"""No more than so many: a node may be mended, or data come back."""


@dataclass(kw_only=True, slots=True)
class _Loss:
    times: int = 0
    due: float | None = None
    refused: set[str] = field(default_factory=set)


class Replacements:
    """Workers that cannot be started where they came to, by their numbers.

    A node that lacks what it needs makes every worker fail that comes to it, and so could cost a run all that wait for
    room. One that was lost is started again after a while, elsewhere if there is another node with room.
    """

    def __init__(self) -> None:
        self._losses: dict[int, _Loss] = {}

    def lost(self, number: int, node: str | None, now: float) -> None:
        """This worker has failed on that node (`None`: nobody knows which)."""
        loss = self._losses.setdefault(number, _Loss())
        loss.due = now + min(MOST_S, FIRST_S * 2.0**loss.times)
        loss.times += 1
        if node:
            loss.refused.add(node)

    def waits(self, number: int) -> bool:
        """Whether it is known that this worker was lost."""
        loss = self._losses.get(number)
        return loss is not None and loss.due is not None

    def due(self, now: float) -> list[int]:
        """Whose time has come; they wait no longer."""
        found = sorted(number for number, loss in self._losses.items() if loss.due is not None and loss.due <= now)
        for number in found:
            self._losses[number].due = None
        return found

    def refused_by(self, number: int) -> frozenset[str]:
        """Nodes on which this worker has failed."""
        loss = self._losses.get(number)
        return frozenset(loss.refused) if loss else frozenset()
