"""What the simulated cluster is like: how long children take, how slow messages are, and what is lost. Pure."""

from dataclasses import dataclass

from cluster.simulation.words import ChildSeconds

DEFAULT_REPLACE_S = 300.0
"""Seconds until a preempted machine is replaced: some minutes in the clouds."""

SHARD_RECOVERY_S = 2.4
"""Seconds until a killed shard host answers again, measured: docs/faults.md."""

REPLICA_RECOVERY_S = 2.0
"""Seconds until a killed replica goes on, measured: docs/faults.md."""

PUSH_S = 0.016
"""Seconds of one shard that has the whole vector for a durable push, measured: docs/design/scale.md."""

PULL_SHARE = 1 / 3
"""What a pull takes of that, measured there."""

RESTART_S = 1.8
"""Seconds until a worker's process that was ended is up again, measured: docs/faults.md."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a simulation goes by, beside the run's own options.

    Attributes:
        child_seconds: how long children train, or `None` where a table tells.
        delay_s: seconds of a message from one part to another.
        preempted_per_s: how often each worker is taken away, per second that it is there; 0 is never.
        replace_after_s: seconds until another takes its place.
        shard_mtbf_s: mean seconds between two failures of one shard, or `None` for never.
        shard_recovery_s: seconds until it answers again.
        replica_mtbf_s: mean seconds between two failures of one replica, or `None` for never.
        replica_recovery_s: seconds until it goes on.
        push_s: seconds of the shards together for a push; each of n has an n-th of it to do.
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
