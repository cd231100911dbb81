"""How many of each part a run has, and how its shards keep their replicas together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from child_trainer.field_types import check_types
from child_trainer.threads import check_threads
from cluster.config.staleness import StalenessRule
from cluster.search.records import Batching
from ps.consistency import Consistency

MAX_PARTS = 100_000
"""Sanity limit for replicas, shards, children and workers; larger values are rejected as typos."""

AUTO = "auto"
"""The value of `gpus_per_child` with which each child gets a part of a GPU by the memory that it needs."""


@dataclass(frozen=True, kw_only=True)
class Topology:
    """How many of each part there are. The paper: 20 shards, 100 replicas, 8 children each."""

    replicas: int = 100
    """Controller replicas (K)."""
    shards: int = 20
    """Parameter-server shards (S)."""
    children: int = 8
    """Children sampled for each gradient (m)."""
    batching: Batching = "barrier"
    """When a replica learns; with barrier once all m children that it sampled have ended (the paper), with stream once
    any m have. With stream it keeps m in training, so that no worker waits for a slow child."""
    workers: int | None = None
    """Workers, each training one child at a time; unset: as many as the GPUs or cores allow, at most K x m. With
    --local there are none: the one process trains the children one after another."""
    workers_per_process: int = 1
    """Workers that share a process. More than 1 is for rehearsals on a small machine: a crash ends all of them."""
    gpus_per_child: float | Literal["auto"] | None = None
    """GPUs of a worker, or auto; fractions allowed; auto: for each child a part, by memory; unset: 1 if there is."""
    threads_per_child: int = 1
    """CPU threads that train one child. They are also the cores of its worker. The last bits of a child's curve depend
    on their number, so a resumed run keeps it."""
    fuse_seeds: int = 1
    """Seeds of one network that wait together and are trained as one, at most, where that is faster. The last bits of a
    child's curve depend on it, so a resumed run keeps it."""
    accumulate: int = 1
    """Pushes averaged into one step; the paper's language-model run has 10."""

    consistency: Literal["async", "ssp", "sync"] = "async"
    """How replicas wait for each other; async never (the paper), ssp within a bound, sync always. With ssp a replica
    waits for those that are more than the staleness bound behind it."""
    staleness_bound: int = 0
    """With ssp: pushes allowed ahead of the slowest."""
    on_stale: Literal["apply", "scale", "drop"] = "apply"
    """Treatment of a stale gradient; apply it (the paper), scale it down by its staleness, or drop it."""
    max_staleness: int | None = None
    """With drop: largest staleness still applied."""

    def store_consistency(self, members: Sequence[str]) -> Consistency:
        """Return the shards' consistency between these clients."""
        return StalenessRule.of(self).store_consistency(members)

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("replicas", "shards", "children", "workers", "workers_per_process", "accumulate", "fuse_seeds"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MAX_PARTS:
                limit = "at least 1" if value < 1 else f"at most {MAX_PARTS:,}"
                raise ValueError(f"`{name}` must be {limit}, got {value}")
        check_threads(self.threads_per_child, "threads_per_child")
        if self.consistency == "sync" and self.accumulate > 1:
            raise ValueError(f"`accumulate` must be 1 with `consistency` sync, got {self.accumulate}")
        if self.consistency == "sync" and self.batching == "stream":
            raise ValueError(
                "`batching` must be barrier with `consistency` sync, in which replicas wait for one another and their"
                " workers with them, got stream"
            )
        StalenessRule.of(self)
        gpus = self.gpus_per_child
        if isinstance(gpus, float | int) and not (
            0 <= gpus <= 1 or (gpus > 1 and math.isfinite(gpus) and gpus == int(gpus))
        ):
            raise ValueError(f"`gpus_per_child` must be a fraction of one GPU or a whole number of them, got {gpus}")
