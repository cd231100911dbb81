"""The latency of a child by the run's own table of options. No torch."""

from child_trainer import own_files
from cluster.config.run_config import RunConfig
from cluster.monitoring.status import Best
from controller.decisions import InvalidTokens


def latency_of(config: RunConfig, best: Best) -> float | None:
    """Return the µs that a child's options take for one image, or `None` if the run has no table of latencies.

    What all children have in common, such as the stem, is not included. Nothing is known of tokens of another space, as
    in a run whose space this version does not know.
    """
    table = config.option_latencies
    gates_of = getattr(config.search_space, "gates", None)
    if not table or gates_of is None:
        return None
    try:
        with own_files.using(config.files):
            gates = gates_of(best.tokens)
    except InvalidTokens:
        return None
    if {gate: len(vector) for gate, vector in gates.items()} != {gate: len(costs) for gate, costs in table.items()}:
        return None
    return sum(share * cost for gate, vector in gates.items() for share, cost in zip(vector, table[gate], strict=True))


def latency_text(config: RunConfig, best: Best) -> str:
    """Return the latency for people; empty if the run has no table of latencies."""
    latency = latency_of(config, best)
    return "" if latency is None else f"{latency:,.0f} µs for its options by the run's table"
