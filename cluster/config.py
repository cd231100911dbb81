"""What a run is: everything that `nascluster launch` may be told. No torch, no Ray.

Options stand beside what they configure (the space, the searcher, a child's budget); this page collects them.
"""

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget, Measure
from child_trainer.tasks.faults import parse_faults
from child_trainer.tasks.summaries import TASKS
from cluster.callbacks.options import CallbackOptions
from cluster.logs.options import LogOptions
from cluster.metrics.options import MetricsOptions
from cluster.pool.reactions import Reactions, parse_reactions
from cluster.pool.supervision import Rules
from cluster.remote.storage import is_url
from controller.reward import REWARDS
from controller.searchers.options import EvolutionOptions, LocalSearchOptions, ReinforceOptions
from controller.space import SearchSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.spaces.recurrent import RecurrentSpace
from ps.consistency import Consistency

T = TypeVar("T")

DEFAULT_STORAGE = "~/nascluster_runs"

MOST_PARTS = 100_000
"""More replicas, shards, children at once or workers than this are a slip of the hand."""

MOST_CHILDREN = 1_000_000_000
"""The same of children in all."""


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
        if not (math.isfinite(self.child_seconds) and self.child_seconds >= 0):
            raise ValueError(f"`child_seconds` must be 0 or more, got {self.child_seconds}")
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
    workers: int | None = None
    """Workers that train children, one at a time each; unset: as many as the GPUs or cores allow, at most K x m."""
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


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One search."""

    name: str | None = None
    """The run's name, a folder below the storage path; unset: the recipe and the time."""
    storage_path: str = DEFAULT_STORAGE
    """Folder of all runs, or its URL in an object store (s3://...); the run's own folder below holds everything."""
    seed: int = 0
    """Root of all randomness."""
    local: bool = False
    """Run in this one process, without Ray."""
    max_children: int = 12_800
    """Children after which the search ends (the paper trained 12,800)."""
    searcher: Literal["reinforce", "random", "evolution", "local-search"] = "reinforce"
    """What decides which architectures to try."""
    space: Literal["convolutional", "recurrent", "nasbench201"] = "convolutional"
    """What an architecture may be."""
    reward: Literal["cubed-accuracy", "accuracy", "perplexity"] = "cubed-accuracy"
    """What the searcher learns from: the best of the last five validation accuracies, cubed as in the paper, or not;
    or, of language models, 80 divided by the square of the best of the last five validation perplexities."""
    task: TaskOptions = field(default_factory=TaskOptions)
    """What children are trained on"""
    budget: Budget = field(default_factory=Budget)
    """What one child may use"""
    topology: Topology = field(default_factory=Topology)
    """How many of each part there are"""
    failures: FailureOptions = field(default_factory=FailureOptions)
    """What becomes of children that fail"""
    metrics: MetricsOptions = field(default_factory=MetricsOptions)
    """Where Prometheus reads the run"""
    logs: LogOptions = field(default_factory=LogOptions)
    """How events are told"""
    callbacks: CallbackOptions = field(default_factory=CallbackOptions)
    """Who is told of each child"""
    convolutional: ConvolutionalSpace = field(default_factory=ConvolutionalSpace)
    """What a convolutional architecture may be"""
    recurrent: RecurrentSpace = field(default_factory=RecurrentSpace)
    """What a recurrent cell may be"""
    nasbench201: NasBench201Space = field(default_factory=NasBench201Space)
    """What a network of NAS-Bench-201's cells may be"""
    reinforce: ReinforceOptions = field(default_factory=ReinforceOptions)
    """The controller, where the searcher is reinforce"""
    evolution: EvolutionOptions = field(default_factory=EvolutionOptions)
    """The population, where the searcher is evolution"""
    local_search: LocalSearchOptions = field(default_factory=LocalSearchOptions)
    """The climbs, where the searcher is local-search"""

    def __post_init__(self) -> None:
        if not 1 <= self.max_children <= MOST_CHILDREN:
            limit = "at least 1" if self.max_children < 1 else f"at most {MOST_CHILDREN:,}"
            raise ValueError(f"`max_children` must be {limit}, got {self.max_children}")
        if self.name is not None and (not self.name or self.name[0] in ".-" or set(self.name) & set("/\\\0")):
            raise ValueError(
                f"`name` must be a folder's name without slashes or a leading dot or dash, got {self.name!r}"
            )
        self._check_task()
        self._check_shared_processes()

    @property
    def search_space(self) -> SearchSpace:
        """The chosen one of the spaces, each of which has its options under its own name."""
        return getattr(self, self.space)

    @property
    def measure(self) -> Measure:
        """What children are compared by."""
        return TASKS[self.task.task].measure

    def _check_task(self) -> None:
        """Make sure that the task can judge what the space gives, and the reward what the task gives."""
        task, name = TASKS[self.task.task], self.task.task
        kind = self.search_space.kind
        if kind not in task.kinds:
            raise ValueError(
                f"the task {name!r} trains {' and '.join(task.kinds)} architectures; the space {self.space!r} has"
                f" {kind} ones"
            )
        fitting = [reward for reward, entry in REWARDS.items() if self.measure in entry.measures]
        if self.reward not in fitting:
            raise ValueError(
                f"the reward {self.reward!r} does not judge the {self.measure} of the task {name!r}; use"
                f" {' or '.join(fitting)}"
            )
        task.check_budget(self.budget)
        if name == "nasbench201" and self.search_space != NasBench201Space():
            raise ValueError(
                "the task 'nasbench201' knows the benchmark's own networks only: use the space 'nasbench201' and leave"
                f" its options as they are, got {self.search_space}"
            )

    def _check_shared_processes(self) -> None:
        shared = self.topology.workers_per_process
        alone = {
            "`task` that trains": TASKS[self.task.task].trains,
            "`child_faults`": bool(self.task.faults),
            "`child_timeout`": self.failures.child_timeout is not None,
            "`recycle_after`": self.failures.recycle_after is not None,
            "`gpus_per_child`": bool(self.topology.gpus_per_child),
        }
        if shared > 1 and (needs := next((what for what, there in alone.items() if there), None)):
            raise ValueError(
                f"`workers_per_process` must be 1 with a {needs}, which needs a process each, got {shared}"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; `from_json` gives back an equal configuration."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RunConfig":
        """The configuration that `to_json` wrote."""
        return _restore(cls, data)


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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _restore(kind: type[T], data: dict[str, Any]) -> T:
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}  # pyright: ignore[reportArgumentType]
    return kind(**{name: _restore_field(hints[name], value) for name, value in data.items() if name in known})


def _restore_field(hint: Any, value: Any) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return _restore(hint, value)
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if Path in options and value is not None and not is_url(value):
        return Path(value)
    return tuple(value) if isinstance(value, list) else value
