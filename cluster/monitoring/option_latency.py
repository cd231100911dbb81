"""The latency of a child by the run's own table of options. No torch."""

from typing import cast

from cluster.config.run_config import RunConfig
from cluster.monitoring.status import Best
from controller.space import HasSupernet


def latency_of(config: RunConfig, best: Best) -> float | None:
    """Return the µs that a child's options take for one image, or `None` if the run has no table of latencies.

    What all children have in common, such as the stem, is not included.
    """
    if not config.option_latencies:
        return None
    gates = cast(HasSupernet, config.search_space).gates(best.tokens)
    table = config.option_latencies
    return sum(share * cost for gate, vector in gates.items() for share, cost in zip(vector, table[gate], strict=True))


def latency_text(config: RunConfig, best: Best) -> str:
    """Return the latency for people; empty if the run has no table of latencies."""
    latency = latency_of(config, best)
    return "" if latency is None else f"{latency:,.0f} µs for its options by the run's table"
