"""The options of the weights that children share: their shards, and how durable and how consistent they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from child_trainer.field_types import check_types
from cluster.config.durations import parse_seconds
from cluster.config.staleness import StalenessRule
from cluster.config.topology import MAX_PARTS
from ps.consistency import Consistency

PREFIX = "weights_"
"""What the names of these options begin with, unlike those of the searcher's parameters."""


@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    """Where the weights are that children share, for searchers that have such."""

    weights_shards: int = 1
    """Shards of the shared weights, which are others than those of the searcher's parameters."""
    weights_snapshot: str = "60s"
    """Interval of the shared weights' snapshots; a shard that is killed loses the steps since its last one. With 0 it
    writes all its weights before each step is acknowledged, and loses none."""
    weights_consistency: Literal["async", "ssp", "sync", "causal"] = "async"
    """How children that make steps at once wait for each other; async never, ssp within a bound, sync always. With sync
    their gradients become one step on their mean. Both need a worker for each child that is out. With causal a child
    begins when all earlier ones have ended that share a weight with it, and any number of workers gives the same
    weights, to the bit."""
    weights_deferred: Literal["common", "all"] = "common"
    """With causal: whose steps wait until the batch of children has ended, and are then made in the children's order;
    those of the weights that every path reads, or of all, so that no child waits for another."""
    weights_staleness_bound: int = 0
    """With ssp: steps allowed ahead of the slowest."""
    weights_on_stale: Literal["apply", "scale", "drop"] = "apply"
    """Treatment of a step whose weights have changed since it pulled them; apply it, scale it down by its staleness, or
    drop it."""
    weights_max_staleness: int | None = None
    """With drop: largest staleness still applied."""

    def __post_init__(self) -> None:
        check_types(self)
        if not 1 <= self.weights_shards <= MAX_PARTS:
            limit = "at least 1" if self.weights_shards < 1 else f"at most {MAX_PARTS:,}"
            raise ValueError(f"`weights_shards` must be {limit}, got {self.weights_shards}")
        parse_seconds("weights_snapshot", self.weights_snapshot, zero=True)
        StalenessRule.of(self, PREFIX)
        self._check_causal()

    def _check_causal(self) -> None:
        if self.weights_deferred != "common" and not self.causal:
            raise ValueError(
                f"`weights_deferred` must be common unless `weights_consistency` is causal, got {self.weights_deferred}"
            )
        if self.causal and self.weights_on_stale != "apply":
            raise ValueError(
                "`weights_on_stale` must be apply where `weights_consistency` is causal, as how stale a step is depends"
                f" on time, got {self.weights_on_stale}"
            )

    @property
    def causal(self) -> bool:
        """Whether children train in causal order, and steps on common weights wait until a batch has ended."""
        return self.weights_consistency == "causal"

    @property
    def waits(self) -> bool:
        """Whether children that make steps may wait for others, which need a worker then."""
        return StalenessRule.of(self, PREFIX).waits

    @property
    def snapshot_interval_s(self) -> float:
        """Seconds between two snapshots of a shard; 0: one before each ack."""
        return parse_seconds("weights_snapshot", self.weights_snapshot, zero=True)

    def store_consistency(self, members: Sequence[str]) -> Consistency:
        """Return the shards' consistency between these clients."""
        return StalenessRule.of(self, PREFIX).store_consistency(members)
