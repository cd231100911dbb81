"""The model of the simulated cluster: times of children and messages, and rates of failures. Pure."""

from dataclasses import dataclass

from cluster.config.run_config import RunConfig
from cluster.simulation.distributions import ChildSeconds
from cluster.simulation.steps_model import StepsModel, StepTraffic

DEFAULT_REPLACE_S = 300.0
"""Seconds until a preempted machine is replaced: some minutes in public clouds."""

SHARD_RECOVERY_S = 2.4
"""Seconds until a killed shard host answers again, as measured in docs/faults.md."""

REPLICA_RECOVERY_S = 2.0
"""Seconds until a killed replica resumes, as measured in docs/faults.md."""

PUSH_S = 0.006
"""Seconds that a durable push of the whole vector takes one shard, as measured in docs/design/scale.md."""

PULL_SHARE = 1 / 3
"""Time of a pull relative to a push, as measured in docs/design/scale.md."""

RESTART_S = 1.8
"""Seconds until a killed worker process is up again, as measured in docs/faults.md."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterModel:
    """The parameters of the simulated cluster, in addition to the run's own options.

    Attributes:
        child_seconds: distribution of training times, or `None` if a table has them.
        delay_s: seconds per message between two parts.
        preempted_per_s: preemptions per worker and second of its life; 0 is never.
        replace_after_s: seconds until a preempted worker is replaced.
        shard_mtbf_s: mean seconds between two failures of one shard, or `None` for never.
        shard_recovery_s: seconds until a failed shard answers again.
        replica_mtbf_s: mean seconds between two failures of one replica, or `None` for never.
        replica_recovery_s: seconds until a failed replica resumes.
        push_s: seconds of shard time per push in all; each of n shards does an n-th of it.
        compute_s: seconds that a worker computes in a step on shared weights, or `None` if unknown.
        traffic: what such a step exchanges with the shards; `None` if the search has no shared weights.
    """

    child_seconds: ChildSeconds | None
    delay_s: float = 0.0
    preempted_per_s: float = 0.0
    replace_after_s: float = DEFAULT_REPLACE_S
    shard_mtbf_s: float | None = None
    shard_recovery_s: float = SHARD_RECOVERY_S
    replica_mtbf_s: float | None = None
    replica_recovery_s: float = REPLICA_RECOVERY_S
    push_s: float = PUSH_S
    compute_s: float | None = None
    traffic: StepTraffic | None = None

    def steps(self, config: RunConfig) -> StepsModel | None:
        """Return how long steps on shared weights take in a run; `None` if it has none."""
        if self.traffic is None or self.compute_s is None:
            return None
        return StepsModel(
            compute_s=self.compute_s,
            traffic=self.traffic,
            shards=config.weights.weights_shards,
            policy_shards=config.topology.shards,
            delay_s=self.delay_s,
        )
