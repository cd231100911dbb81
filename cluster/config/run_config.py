"""What a run is: everything that `nascluster launch` may be told. No torch, no Ray.

Options stand beside what they configure (the space, the searcher, a child's budget); this page collects them.
"""

import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from child_trainer.outcome import Budget, Measure
from cluster.config.callback_options import CallbackOptions
from cluster.config.failure_options import FailureOptions
from cluster.config.locations import is_url
from cluster.config.log_options import LogOptions
from cluster.config.metrics_options import MetricsOptions
from cluster.config.task_options import TaskOptions, task_options_from_json
from cluster.config.topology import Topology
from controller.reward import REWARDS
from controller.searchers.evolutionary.options import EvolutionOptions, LocalSearchOptions
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.space import SearchSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.nasbench201 import NasBench201Space
from controller.spaces.recurrent import RecurrentSpace

T = TypeVar("T")

DEFAULT_STORAGE = "~/nascluster_runs"

MOST_CHILDREN = 1_000_000_000
"""The same of children in all."""


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
        return self.task.entry.measure

    def _check_task(self) -> None:
        """Make sure that the task can judge what the space gives, and the reward what the task gives."""
        task, name = self.task.entry, self.task.task
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
        task.check_space(name, self.space, vars(self.search_space))

    def _check_shared_processes(self) -> None:
        shared = self.topology.workers_per_process
        alone = {
            "`task` that trains": self.task.entry.trains,
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
    if hint is TaskOptions:
        return task_options_from_json(value)
    if is_dataclass(hint) and isinstance(hint, type):
        return _restore(hint, value)
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if Path in options and value is not None and not is_url(value):
        return Path(value)
    return tuple(value) if isinstance(value, list) else value
