"""Limits on the size of a simulation, checked before it starts. Pure."""

import math
from collections.abc import Sequence
from statistics import fmean

from cluster.config.flags import UsageError
from cluster.config.run_config import RunConfig
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.simulator import workers_of

MAX_SIMULATED = 1_000_000
"""Upper bound for the simulated children, and for the simulated failures; more would take too long."""

MAX_EXPONENT = 700.0
"""Larger exponents overflow a float."""

MAX_PRINTED = 1e12
"""Larger numbers are not printed with digits."""


def check_limits(config: RunConfig, model: ClusterModel, lengths_s: Sequence[float]) -> None:
    """Raise `UsageError` if the simulation is expected to take too long.

    Args:
        config: the simulated run.
        model: the model of the cluster.
        lengths_s: seconds of uninterrupted training of all or some children.
    """
    if config.max_children > MAX_SIMULATED:
        raise UsageError(f"`max_children` of a simulation must be at most {MAX_SIMULATED:,}, got {config.max_children}")
    for name in ("shard", "replica"):
        mtbf_s, recovery_s = getattr(model, f"{name}_mtbf_s"), getattr(model, f"{name}_recovery_s")
        parts = config.topology.shards if name == "shard" else 1
        if mtbf_s is not None and mtbf_s / parts <= recovery_s:
            raise UsageError(
                f"`{name}_mtbf` must be above {parts * recovery_s:g} s, or some {name} is always unavailable, got"
                f" {mtbf_s:g} s"
            )
    if (lost := expected_losses(config, model, lengths_s)) > MAX_SIMULATED:
        number = f"some {lost:,.0f}" if lost < MAX_PRINTED else "more than a trillion"
        remedy = " (with `checkpoint_children` a preempted child would not start over)"
        may_help = model.preempted_per_s and not config.failures.checkpoint_children
        raise UsageError(
            f"`preempt`, `shard_mtbf` and `replica_mtbf` must lose at most {MAX_SIMULATED:,} workers, shards and"
            f" replicas in all, and would lose {number}{remedy if may_help else ''}"
        )


def expected_losses(config: RunConfig, model: ClusterModel, lengths_s: Sequence[float]) -> float:
    """Return a rough upper estimate of the workers, shards and replicas that the search loses."""
    topology, workers, rules = config.topology, workers_of(config), config.failures.rules
    rate = model.preempted_per_s
    if rules.checkpoints:
        worker_seconds = [expected_worker_seconds(length, rate, config.budget.epochs) for length in lengths_s]
    else:
        timeout_s = math.inf if rules.child_timeout_s is None else rules.child_timeout_s
        worker_seconds = [expected_worker_seconds(min(length, timeout_s), rate) for length in lengths_s]
    # A batch takes longer than its average child, and so may the end of a search: 3 times is generous.
    rounds = config.max_children / min(workers, topology.replicas * topology.children)
    busy_s = 3 * fmean(worker_seconds) * rounds + max(3 * fmean(worker_seconds), *worker_seconds)
    # A worker is unavailable for `rate * replace_after_s` seconds per second of its life.
    seconds = busy_s * (1 + rate * model.replace_after_s)
    lost = workers * rate * busy_s
    lost += seconds * topology.shards / model.shard_mtbf_s if model.shard_mtbf_s else 0.0
    lost += seconds * topology.replicas / model.replica_mtbf_s if model.replica_mtbf_s else 0.0
    return lost


def expected_worker_seconds(length_s: float, rate: float, parts: int = 1) -> float:
    """Return the mean worker seconds of a child: (exp(r c) - 1) / r for each of its parts, of length c.

    Args:
        length_s: seconds of uninterrupted training.
        rate: r, interruptions per second.
        parts: number of equal parts; an interrupted part starts over.
    """
    if not rate:
        return length_s
    exponent = rate * length_s / parts
    return parts * math.expm1(exponent) / rate if exponent < MAX_EXPONENT else math.inf
