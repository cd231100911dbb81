"""The options of failures: retries, timeouts and checkpoints."""

from dataclasses import dataclass

from child_trainer.field_types import check_types
from cluster.config.durations import parse_seconds
from cluster.pool.failure_policy import FailurePolicy, parse_failure_policy
from cluster.pool.supervision import Rules


@dataclass(frozen=True, kw_only=True)
class FailureOptions:
    """What follows a child's failure: retries, timeouts and checkpoints."""

    max_attempts: int = 3
    """Failed attempts allowed for a child; then it fails permanently. Preemptions do not count."""
    on_failure: str = ""
    """Actions by cause of failure; CAUSE=ACTION,... Causes: out_of_memory, timeout, diverged, crashed, preempted,
    invalid. Actions: retry (elsewhere), smaller-batch (retry with half the batch size), reward:NUMBER, drop (not
    learnt from); one of the first two and one of the last two may be joined by a plus sign. Unset: crashed and
    preempted are retried; a child that fails permanently earns the reward 0."""
    child_timeout: str | None = None
    """Timeout for one attempt, such as 2h or 600s; then its process is killed. With --local, where no other process can
    kill it, the attempt ends with the epoch that passes the time."""
    worker_silence: str = "60s"
    """Heartbeat timeout of a busy worker."""
    recycle_after: int | None = None
    """Children per worker process; then it is restarted, with clean memory. Unset: never."""
    checkpoint_children: bool = False
    """Save each child's state and resume from it; it is saved after each epoch and at a preemption."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("max_attempts", "recycle_after"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")
        parse_failure_policy(self.on_failure)
        for name in ("child_timeout", "worker_silence"):
            if getattr(self, name) is not None:
                parse_seconds(name, getattr(self, name))

    @property
    def rules(self) -> Rules:
        """The limits that the pool enforces."""
        timeout = self.child_timeout
        return Rules(
            child_timeout_s=None if timeout is None else parse_seconds("child_timeout", timeout),
            heartbeat_timeout_s=parse_seconds("worker_silence", self.worker_silence),
            recycle_after=self.recycle_after,
            checkpoints=self.checkpoint_children,
        )

    @property
    def policy(self) -> FailurePolicy:
        """What follows each cause of failure."""
        return FailurePolicy(max_attempts=self.max_attempts, by_cause=parse_failure_policy(self.on_failure))
