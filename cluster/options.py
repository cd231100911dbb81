"""What a run is told of its task, its layout and its failures: frozen options, which `cluster.config` puts together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from child_trainer.language_options import LanguageOptions
from child_trainer.tasks.faults import parse_faults
from child_trainer.tasks.summaries import TASKS
from cluster.pool.reactions import Reactions, parse_reactions
from cluster.pool.supervision import Rules
from cluster.records import Batching
from ps.consistency import Consistency

MOST_PARTS = 100_000
"""More replicas, shards, children at once or workers than this are a slip of the hand."""


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What children are trained on."""

    task: Literal["digits", "fashion-mnist", "cifar10", "ptb", "wikitext2", "text", "synthetic", "nasbench201"] = (
        "digits"
    )
    """Data, loss, metric and preprocessing; `synthetic` trains nothing and scores the architecture itself;
    `nasbench201` looks it up in the benchmark's table."""
    data: str | Path | None = None
    """Folder with the data on every node (images in torchvision's layout; texts as train.txt, valid.txt and test.txt),
    or its URL in an object store (s3://...), from which each node fetches a copy once; digits, text and synthetic need
    none."""
    download: bool = False
    """Download the data into the folder first if it is not there."""
    child_seconds: float = 0.0
    """Seconds that a synthetic child pretends to train for."""
    child_spread: float = 0.0
    """How unlike synthetic children are in that: the sigma of a log-normal distribution around those seconds."""
    child_faults: str = ""
    """Faults that synthetic children rehearse: FAULT=PROBABILITY,... of crashed (a segmentation fault), hang,
    out_of_memory and diverged."""
    language: LanguageOptions = field(default_factory=LanguageOptions)
    """What a language model is around its cell"""

    @property
    def faults(self) -> Mapping[str, float]:
        """The rehearsed faults and their probabilities."""
        return parse_faults(self.child_faults)

    @property
    def instant(self) -> bool:
        """Whether a child takes no time and can come to no harm."""
        return not (TASKS[self.task].trains or self.child_seconds or self.faults)

    def __post_init__(self) -> None:
        for name in ("child_seconds", "child_spread"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"`{name}` must be 0 or more, got {getattr(self, name)}")
        parse_faults(self.child_faults)


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


@dataclass(frozen=True, kw_only=True)
class FailureOptions:
    """What becomes of children that fail."""

    max_attempts: int = 3
    """Failed attempts after which a child is given up; preemptions do not count."""
    on_failure: str = ""
    """What follows a failure, by its cause: CAUSE=ACTION,... Causes: out_of_memory, timeout, diverged, crashed,
    preempted, invalid. Actions: retry (elsewhere), smaller-batch (retry with half the batch size), reward:NUMBER, drop
    (not learnt from); one of the first two and one of the last two may be joined by a plus sign. Unset: crashed and
    preempted are retried; what is given up earns the reward 0."""
    child_timeout: str | None = None
    """Time that one attempt at a child may take, such as 2h, 90m or 600s; then its process is ended from outside. With
    --local there is no outside: the attempt ends with the epoch that passes the time."""
    worker_silence: str = "60s"
    """Time without a sign of life after which a busy worker is taken for dead."""
    recycle_after: int | None = None
    """Children after which a worker's process is started afresh, with clean memory; unset: never."""
    checkpoint_children: bool = False
    """Children save their state after each epoch, and at once when they are preempted, and go on from there."""

    def __post_init__(self) -> None:
        for name in ("max_attempts", "recycle_after"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")
        parse_reactions(self.on_failure)
        for name in ("child_timeout", "worker_silence"):
            if getattr(self, name) is not None:
                parse_seconds(name, getattr(self, name))

    @property
    def rules(self) -> Rules:
        """What the pool watches over."""
        timeout = self.child_timeout
        return Rules(
            child_timeout_s=None if timeout is None else parse_seconds("child_timeout", timeout),
            silence_s=parse_seconds("worker_silence", self.worker_silence),
            recycle_after=self.recycle_after,
            checkpoints=self.checkpoint_children,
        )

    @property
    def reactions(self) -> Reactions:
        """What follows a failure."""
        return Reactions(max_attempts=self.max_attempts, by_cause=parse_reactions(self.on_failure))


UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_seconds(name: str, text: str) -> float:
    """Seconds from a number with a unit (s, m, h or d) or without one (seconds).

    Raises:
        ValueError: it is no such number, or not above 0; naming the option `name`.
    """
    unit = UNITS_S.get(text[-1:])
    try:
        seconds = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"`{name}` must be a time above 0 such as 2h, 90m or 600s, got {text!r}")
    return seconds
