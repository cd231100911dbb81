"""What `nascluster simulate` may be told beside the options of a run. Pure."""

import math
from dataclasses import dataclass
from typing import Annotated

import tyro

from cluster.config.durations import parse_seconds
from cluster.simulation.conditions import DEFAULT_REPLACE_S, PUSH_S, REPLICA_RECOVERY_S, SHARD_RECOVERY_S, Conditions
from cluster.simulation.words import child_seconds_of, rate_of


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationOptions:
    """What the simulated cluster is like, and what is to be told."""

    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")]
    """The named run."""
    child_seconds: str | None = None
    """How long children train: lognormal:MEDIAN:SIGMA, exponential:MEAN or constant:SECONDS, each in seconds; unset: as
    the task's table tells."""
    delay: str | None = None
    """Time that a message from one part to another takes, such as 0.01s; unset: none."""
    preempt: str = "0/h"
    """How often each worker is taken away, such as 0.05/h."""
    replace_after: str = f"{DEFAULT_REPLACE_S:g}s"
    """Time until another worker takes its place."""
    shard_mtbf: str | None = None
    """Mean time between two failures of one shard, such as 200h; unset: they never fail."""
    shard_recovery: str = f"{SHARD_RECOVERY_S:g}s"
    """Time until a shard that failed answers again; pulls and pushes wait for it."""
    replica_mtbf: str | None = None
    """Mean time between two failures of one replica; unset: they never fail."""
    replica_recovery: str = f"{REPLICA_RECOVERY_S:g}s"
    """Time until a replica that failed goes on."""
    push_time: str = f"{PUSH_S:g}s"
    """Time of a push where there is one shard; of n, each has an n-th of it to do."""
    cost: float | None = None
    """Price of an hour of one GPU; unset: GPU hours are told."""
    as_is: bool = False
    """Leave out what would help."""
    json: bool = False
    """Print one JSON object instead of text."""

    @property
    def conditions(self) -> Conditions:
        """What the simulation goes by.

        Raises:
            ValueError: one of the words means nothing.
        """

        def seconds(name: str) -> float | None:
            text = getattr(self, name)
            return None if text is None else parse_seconds(name, text)

        def surely(name: str) -> float:
            return parse_seconds(name, getattr(self, name))

        if self.cost is not None and not (math.isfinite(self.cost) and self.cost >= 0):
            raise ValueError(f"`cost` must be 0 or more for an hour of one GPU, got {self.cost}")
        return Conditions(
            child_seconds=None if self.child_seconds is None else child_seconds_of(self.child_seconds),
            delay_s=seconds("delay") or 0.0,
            preempted_per_s=rate_of(self.preempt),
            replace_after_s=surely("replace_after"),
            shard_mtbf_s=seconds("shard_mtbf"),
            shard_recovery_s=surely("shard_recovery"),
            replica_mtbf_s=seconds("replica_mtbf"),
            replica_recovery_s=surely("replica_recovery"),
            push_s=surely("push_time"),
        )
