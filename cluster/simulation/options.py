"""The options of `nascluster simulate`, in addition to those of a run. Pure."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from cluster.config.durations import parse_seconds
from cluster.simulation.cluster_model import (
    DEFAULT_REPLACE_S,
    PUSH_S,
    REPLICA_RECOVERY_S,
    SHARD_RECOVERY_S,
    ClusterModel,
)
from cluster.simulation.distributions import parse_child_seconds, parse_rate

MAX_COST = 1e9
"""Bound of the price of an hour, so that the cost of a whole search is a finite number in any currency."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationOptions:
    """Options of the simulated cluster and of the output."""

    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")]
    """The named run."""
    child_seconds: str | None = None
    """How long children train: lognormal:MEDIAN:SIGMA, exponential:MEAN or constant:SECONDS, each in seconds; unset:
    the times of the task's table."""
    step_seconds: str | None = None
    """How long a worker computes in a step on shared weights, such as 0.1s, for searches whose children make such;
    `--child-seconds` is then of the paths that are scored."""
    delay: str | None = None
    """Time per message between two parts, such as 0.01s; unset: none."""
    preempt: str = "0/h"
    """Rate at which each worker is preempted, such as 0.05/h."""
    replace_after: str = f"{DEFAULT_REPLACE_S:g}s"
    """Time until a preempted worker is replaced."""
    shard_mtbf: str | None = None
    """Mean time between two failures of one shard, such as 200h; unset: they never fail."""
    shard_recovery: str = f"{SHARD_RECOVERY_S:g}s"
    """Time until a failed shard answers again; pulls and pushes wait for it."""
    replica_mtbf: str | None = None
    """Mean time between two failures of one replica; unset: they never fail."""
    replica_recovery: str = f"{REPLICA_RECOVERY_S:g}s"
    """Time until a failed replica resumes."""
    push_time: str = f"{PUSH_S:g}s"
    """Time of a push with one shard; each of n shards does an n-th of it."""
    cost: float | None = None
    """Price of an hour of one GPU; unset: the cost is shown in GPU hours."""
    as_is: bool = False
    """Skip the variants that might help."""
    json: bool = False
    """Print one JSON object instead of text."""

    @property
    def model(self) -> ClusterModel:
        """The model of the simulated cluster.

        Raises:
            ValueError: an option is invalid.
        """

        def seconds(name: str) -> float | None:
            text = getattr(self, name)
            return None if text is None else parse_seconds(name, text)

        def required_seconds(name: str) -> float:
            return parse_seconds(name, getattr(self, name))

        if self.cost is not None and not 0 <= self.cost <= MAX_COST:
            raise ValueError(f"`cost` must be from 0 to {MAX_COST:,.0f} for an hour of one GPU, got {self.cost}")
        return ClusterModel(
            child_seconds=None if self.child_seconds is None else parse_child_seconds(self.child_seconds),
            delay_s=seconds("delay") or 0.0,
            preempted_per_s=parse_rate(self.preempt),
            replace_after_s=required_seconds("replace_after"),
            shard_mtbf_s=seconds("shard_mtbf"),
            shard_recovery_s=required_seconds("shard_recovery"),
            replica_mtbf_s=seconds("replica_mtbf"),
            replica_recovery_s=required_seconds("replica_recovery"),
            push_s=required_seconds("push_time"),
            compute_s=seconds("step_seconds"),
        )
