"""The nodes that the runs of a cluster request of its autoscaler, which keeps one list for all. Pure. Standard library.

Times are seconds of one clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass

REPEAT_INTERVAL_S = 10.0
"""Seconds after which a live driver repeats its request."""

DEMAND_TTL_S = 3 * REPEAT_INTERVAL_S
"""Seconds for which a request counts that is not repeated: its driver has ended, however it did."""


@dataclass(frozen=True, slots=True)
class NodeDemand:
    """Room for some processes that are all alike.

    Attributes:
        count: the number of processes.
        resources: of each process, by Ray's names, all on one node.
        selector: the labels that its node must have, in Ray's words.
    """

    count: int
    resources: Mapping[str, float]
    selector: Mapping[str, str]


class NodeDemands:
    """The current demand of each run.

    Args:
        now: the time.
    """

    def __init__(self, now: float) -> None:
        self._demands: dict[str, tuple[NodeDemand, float]] = {}
        self._needed_until = now + DEMAND_TTL_S

    def put(self, run: str, demand: NodeDemand, now: float, ttl_s: float = DEMAND_TTL_S) -> None:
        """Set the run's demand, in place of its earlier one; it expires after `ttl_s` seconds."""
        self._demands[run] = demand, now + ttl_s
        self._needed_until = now + DEMAND_TTL_S

    def drop(self, run: str) -> None:
        """Withdraw the run's demand."""
        self._demands.pop(run, None)

    def all(self, now: float) -> list[NodeDemand]:
        """Return the demands that have not expired."""
        self._demands = {run: (demand, until) for run, (demand, until) in self._demands.items() if now < until}
        return [demand for demand, _ in self._demands.values()]

    def is_idle(self, now: float) -> bool:
        """Return whether there is no demand, and no run has made one for a while."""
        return not self.all(now) and now >= self._needed_until
