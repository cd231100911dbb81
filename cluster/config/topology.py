"""How many of each part a run has, and how its shards keep their replicas together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from child_trainer.training.threads import check_threads
from cluster.search.records import Batching
from ps.consistency import Consistency

MOST_PARTS = 100_000
"""More replicas, shards, children at once or workers than this are a slip of the hand."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """How many of each part there are. The paper: 20 shards, 100 replicas, 8 children each."""

    replicas: int = 100
    """Controller replicas (K)."""
    shards: int = 20
    """Parameter-server shards (S)."""
    children: int = 8
    """Children that a replica samples for each gradient (m)."""
    batching: Batching = "barrier"
    """When a replica learns: with barrier when all m children that it sampled have ended (the paper); with stream when
    any m have, while it keeps m in training, so that no worker waits for a slow child."""
    workers: int | None = None
    """Workers that train children, one at a time each; unset: as many as the GPUs or cores allow, at most K x m. With
    --local there are none: the one process trains each child in its turn."""
    workers_per_process: int = 1
    """Workers that share a process: more than 1 is for rehearsals on a small machine, as what ends one ends all."""
    gpus_per_child: float | None = None
    """GPUs of a worker, fractions allowed; unset: 1 where there is a GPU, else 0."""
    threads_per_child: int = 1
    """Threads that compute a child on the CPU, and the cores of its worker. Its curve depends on their number, so that
    the run keeps it."""
    accumulate: int = 1
    """Pushes that a shard averages into one step (the paper's language-model run: 10)."""

    consistency: Literal["async", "ssp", "sync"] = "async"
    """Who waits for whom: async for nobody (the paper), ssp for whoever is more than a bound behind, sync for all."""
    staleness_bound: int = 0
    """With ssp: pushes that a replica may be ahead of the slowest."""
    on_stale: Literal["apply", "scale", "drop"] = "apply"
    """What a shard does with a stale gradient: apply it (the paper), divide it by its staleness, or drop it."""
    max_staleness: int | None = None
    """With drop: the staleness above which a gradient is dropped."""

    def store_consistency(self, members: Sequence[str]) -> Consistency:
        """The shards' consistency between these clients."""
        return Consistency(
            mode=self.consistency,
            bound=self.staleness_bound,
            members=() if self.consistency == "async" else tuple(members),
            stale=self.on_stale,
            max_staleness=self.max_staleness,
        )

    def __post_init__(self) -> None:
        for name in ("replicas", "shards", "children", "workers", "workers_per_process", "accumulate"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MOST_PARTS:
                limit = "at least 1" if value < 1 else f"at most {MOST_PARTS:,}"
                raise ValueError(f"`{name}` must be {limit}, got {value}")
        check_threads(self.threads_per_child, "threads_per_child")
        if self.consistency == "sync" and self.accumulate > 1:
            raise ValueError(f"`accumulate` must be 1 with `consistency` sync, got {self.accumulate}")
        if self.consistency == "sync" and self.batching == "stream":
            raise ValueError(
                "`batching` must be barrier with `consistency` sync, in which replicas wait for one another and their"
                " workers with them, got stream"
            )
        if self.staleness_bound < 0:
            raise ValueError(f"`staleness_bound` must be 0 or more, got {self.staleness_bound}")
        if self.staleness_bound and self.consistency != "ssp":
            raise ValueError(f"`staleness_bound` must be 0 unless `consistency` is ssp, got {self.staleness_bound}")
        if (self.on_stale == "drop") != (self.max_staleness is not None):
            raise ValueError("`max_staleness` must be given with `on_stale` drop, and with nothing else")
        if self.max_staleness is not None and self.max_staleness < 0:
            raise ValueError(f"`max_staleness` must be 0 or more, got {self.max_staleness}")
        gpus = self.gpus_per_child
        if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and math.isfinite(gpus) and gpus == int(gpus))):
            raise ValueError(f"`gpus_per_child` must be a fraction of one GPU or a whole number of them, got {gpus}")
