"""When lost workers are replaced, and which nodes their replacements avoid. Pure. Times are seconds of one clock."""

from dataclasses import dataclass, field

FIRST_DELAY_S = 10.0
"""Seconds before a lost worker is first replaced; each further loss doubles them."""

MAX_DELAY_S = 300.0
"""Upper bound of the delay: a node may be repaired, or data restored."""


@dataclass(kw_only=True, slots=True)
class _Loss:
    times: int = 0
    due: float | None = None
    refused: set[str] = field(default_factory=set)


class RestartBackoff:
    """Workers that failed to start, by their numbers.

    A node that lacks what a worker needs fails every worker placed on it, and so could cost a run all workers that wait
    for room. A lost worker is replaced after a delay, on another node if one has room.
    """

    def __init__(self) -> None:
        self._losses: dict[int, _Loss] = {}

    def record_loss(self, number: int, node: str | None, now: float) -> None:
        """Record that this worker has failed on a node (`None`: unknown)."""
        loss = self._losses.setdefault(number, _Loss())
        loss.due = now + min(MAX_DELAY_S, FIRST_DELAY_S * 2.0**loss.times)
        loss.times += 1
        if node:
            loss.refused.add(node)

    def is_waiting(self, number: int) -> bool:
        """Return whether this worker was recorded as lost and is not due yet."""
        loss = self._losses.get(number)
        return loss is not None and loss.due is not None

    def due(self, now: float) -> list[int]:
        """Return the workers to replace now, which no longer wait then."""
        numbers = sorted(number for number, loss in self._losses.items() if loss.due is not None and loss.due <= now)
        for number in numbers:
            self._losses[number].due = None
        return numbers

    def refused_by(self, number: int) -> frozenset[str]:
        """Return the ids of the nodes on which this worker has failed."""
        loss = self._losses.get(number)
        return frozenset(loss.refused) if loss else frozenset()
