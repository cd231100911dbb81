"""How large a simulation would become, told before it starts. Pure."""

import math
from collections.abc import Sequence
from statistics import fmean

from cluster.config.flags import UsageError
from cluster.config.run_config import RunConfig
from cluster.simulation.conditions import Conditions
from cluster.simulation.search import workers_of

MOST_SIMULATED = 1_000_000
"""Children of a simulation, and likewise what is lost in it: for more nobody would wait."""

LARGEST_EXPONENT = 700.0
"""Of a float's exponential."""

MOST_TOLD = 1e12
"""Of a larger number than this the digits are not told."""


def check_size(config: RunConfig, conditions: Conditions, lengths_s: Sequence[float]) -> None:
    """Raise `UsageError` if it would take forever, as far as can be foreseen.

    Args:
        config: the run's.
        conditions: what the cluster is like.
        lengths_s: how long some of the children, or all, train where nobody interrupts them.
    """
    if config.max_children > MOST_SIMULATED:
        raise UsageError(
            f"`max_children` of a simulation must be at most {MOST_SIMULATED:,}, got {config.max_children}"
        )
    for name in ("shard", "replica"):
        mtbf_s, recovery_s = getattr(conditions, f"{name}_mtbf_s"), getattr(conditions, f"{name}_recovery_s")
        parts = config.topology.shards if name == "shard" else 1
        if mtbf_s is not None and mtbf_s / parts <= recovery_s:
            raise UsageError(
                f"`{name}_mtbf` must be above {parts * recovery_s:g} s, or there is always a {name} that is away, got"
                f" {mtbf_s:g} s"
            )
    if (lost := losses(config, conditions, lengths_s)) > MOST_SIMULATED:
        number = f"some {lost:,.0f}" if lost < MOST_TOLD else "more than a trillion"
        remedy = " (with `checkpoint_children` a child that is preempted would not start over)"
        may_help = conditions.preempted_per_s and not config.failures.checkpoint_children
        raise UsageError(
            f"`preempt`, `shard_mtbf` and `replica_mtbf` are to lose at most {MOST_SIMULATED:,} workers, shards and"
            f" replicas in all, and would lose {number}{remedy if may_help else ''}"
        )


def losses(config: RunConfig, conditions: Conditions, lengths_s: Sequence[float]) -> float:
    """How many workers, shards and replicas the search would lose, roughly and rather too many."""
    topology, workers, rules = config.topology, workers_of(config), config.failures.rules
    rate = conditions.preempted_per_s
    if rules.checkpoints:
        taken = [seconds_at_workers(length, rate, config.budget.epochs) for length in lengths_s]
    else:
        longest = math.inf if rules.child_timeout_s is None else rules.child_timeout_s
        taken = [seconds_at_workers(min(length, longest), rate) for length in lengths_s]
    # A batch takes some times as long as its children do on average, and so may the end of a search.
    rounds = config.max_children / min(workers, topology.replicas * topology.children)
    busy_s = 3 * fmean(taken) * rounds + max(3 * fmean(taken), *taken)
    # For each second that a worker is there, it is away for so many.
    seconds = busy_s * (1 + rate * conditions.replace_after_s)
    lost = workers * rate * busy_s
    lost += seconds * topology.shards / conditions.shard_mtbf_s if conditions.shard_mtbf_s else 0.0
    lost += seconds * topology.replicas / conditions.replica_mtbf_s if conditions.replica_mtbf_s else 0.0
    return lost


def seconds_at_workers(length_s: float, rate: float, parts: int = 1) -> float:
    """Seconds of workers that a child takes on average: (exp(r c) - 1) / r for each of its parts, of length c.

    Args:
        length_s: how long it trains where nobody interrupts it.
        rate: r, how often it is interrupted, per second.
        parts: into how many equal ones it is divided; one that is interrupted starts over.
    """
    if not rate:
        return length_s
    exponent = rate * length_s / parts
    return parts * math.expm1(exponent) / rate if exponent < LARGEST_EXPONENT else math.inf
