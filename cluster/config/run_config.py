"""The configuration of a run: all options of `nascluster launch`. No torch, no Ray.

Options are defined next to what they configure (the space, the searcher, a child's budget); this module collects them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any

import tyro

from child_trainer import own_files
from child_trainer.field_types import check_types
from child_trainer.outcome import Budget, Measure
from child_trainer.tasks.nasbench201_options import NasBench201Options
from cluster.config.callback_options import CallbackOptions
from cluster.config.ceilings import CeilingOptions
from cluster.config.failure_options import FailureOptions
from cluster.config.log_options import LogOptions
from cluster.config.metrics_options import MetricsOptions
from cluster.config.objective_options import NO_OBJECTIVES, ObjectiveOptions
from cluster.config.plain_data import default_options, plain
from cluster.config.run_checks import check_max_children, check_name, check_parts, check_seed
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.config.weights_options import WeightsOptions
from controller.catalogue import SearcherEntry
from controller.checked_searcher import CheckedSearcher, OnOwnSpace
from controller.own_parts import find_reward, find_searcher, find_space
from controller.reward import Reward
from controller.searcher import Searcher
from controller.searchers.given import GivenOptions
from controller.searchers.start import StartWith
from controller.space import SearchSpace
from controller.spaces.catalogue import SpaceEntry
from controller.stopping.options import StoppingOptions

DEFAULT_STORAGE = "~/nascluster_runs"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One search."""

    name: str | None = None
    """The run's name, a folder below the storage path; unset: the recipe and the time."""
    storage_path: str = DEFAULT_STORAGE
    """Folder of all runs, or its URL; each run has one folder in it. A URL names an object store (s3://...)."""
    seed: int = 0
    """Seed from which all random numbers are derived."""
    local: bool = False
    """Run in this one process, without Ray."""
    max_children: int = 12_800
    """Children after which the search ends; the paper trained 12,800."""
    searcher: str = "reinforce"
    """How architectures are chosen; `nascluster searchers` lists them. FILE.py:NAME names one of your own."""
    space: str = "convolutional"
    """Which architectures are possible; `nascluster spaces` lists them. FILE.py:NAME names one of your own."""
    reward: str = "cubed-accuracy"
    """What the searcher maximises; it is computed from the metric. `nascluster rewards` lists them, and FILE.py:NAME
    names one of your own."""
    start_with: tuple[str, ...] = ()
    """Architectures with which the search begins, before its searcher goes on; the decisions of each as whole numbers
    with commas, or a .json file that has them as `tokens`. `--warm-start` takes the best ones of another run."""
    task: TaskOptions = field(default_factory=TaskOptions)
    """What children are trained on"""
    budget: Budget = field(default_factory=Budget)
    """What one child may use"""
    objectives: ObjectiveOptions = NO_OBJECTIVES
    """What counts beside the metric"""
    ceilings: CeilingOptions = field(default_factory=CeilingOptions)
    """What the whole search may use"""
    stopping: StoppingOptions = field(default_factory=StoppingOptions)
    """Which children are stopped before their last epoch"""
    topology: Topology = field(default_factory=Topology)
    """How many replicas, shards and workers there are"""
    weights: WeightsOptions = field(default_factory=WeightsOptions)
    """Where the weights are that children share"""
    failures: FailureOptions = field(default_factory=FailureOptions)
    """What follows a child's failure"""
    metrics: MetricsOptions = field(default_factory=MetricsOptions)
    """Where Prometheus reads the run"""
    logs: LogOptions = field(default_factory=LogOptions)
    """How events are logged"""
    callbacks: CallbackOptions = field(default_factory=CallbackOptions)
    """What is called with each event"""
    searcher_options: Any = None
    """Options of the searcher"""
    space_options: Any = None
    """Options of the space"""
    recipe: Annotated[str, tyro.conf.Suppress] = ""
    """The recipe that it was launched with, as it was typed; empty if it was none."""
    start_sources: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """Where each architecture of `start_with` is from, in a few words; empty: nothing is known."""
    files: Annotated[Mapping[str, str], tyro.conf.Suppress] = field(default_factory=dict, hash=False)
    """The text of each file of the user's own that the run uses, by the file's name as it was typed."""
    option_latencies: Annotated[Mapping[str, tuple[float, ...]], tyro.conf.Suppress] = field(
        default_factory=dict, hash=False
    )
    """The time in µs that each option of the supernet takes for one image, by gate, as it was measured when the run was
    made; empty if latency does not count."""

    def __post_init__(self) -> None:
        check_types(self)
        check_seed(self.seed)
        check_max_children(self.max_children)
        check_name(self.name)
        self._resolve()
        check_parts(self)

    def _resolve(self) -> None:
        """Look the parts up by their names, keep the texts of the user's own files, and fill in options."""
        parts = (self.searcher, self.space, self.reward, self.task.task)
        if self.objectives.metric == str(self.task.entry.measure) and not self.objectives.costs:
            object.__setattr__(self, "objectives", replace(self.objectives, objective=()))
        with own_files.using(self.files):
            own = dict.fromkeys(own_files.file_of(name) for name in parts if own_files.is_own(name))
            object.__setattr__(self, "files", {file: own_files.text_of(file) for file in own})
        for what, entry in (("searcher", self.searcher_entry), ("space", self.space_entry)):
            name = f"{what}_options"
            options = getattr(self, name)
            if options is None:
                object.__setattr__(self, name, default_options(entry.options, getattr(self, what)))
            elif not isinstance(options, entry.options):
                raise ValueError(
                    f"`{name}` of the {what} {getattr(self, what)!r} must be {entry.options.__name__}, got"
                    f" {type(options).__name__}; omit `{name}`, or set both"
                )
            elif not own_files.is_own(getattr(self, what)):
                check_types(options)

    @property
    def searcher_entry(self) -> SearcherEntry:
        """The searcher's entry in the catalogue, or one made from the user's own file."""
        with own_files.using(self.files):
            return find_searcher(self.searcher)

    @property
    def space_entry(self) -> SpaceEntry:
        """The space's entry in the catalogue, or one made from the user's own file."""
        with own_files.using(self.files):
            return find_space(self.space)

    @property
    def reward_entry(self) -> Reward:
        """The reward."""
        with own_files.using(self.files):
            return find_reward(self.reward)

    @property
    def search_space(self) -> SearchSpace:
        """The space: its options are the space itself."""
        return self.space_options

    def make_searcher(self) -> Searcher:
        """Return a new searcher over the run's space."""
        costs = self.objectives.ranked_costs
        entry, space = self.searcher_entry, self.search_space
        searcher = entry.build(space, self.searcher_options, self.max_children, costs)
        if own_files.is_own(self.searcher):
            searcher = CheckedSearcher(self.searcher, searcher, space, entry.figures)
        if own_files.is_own(self.space):
            searcher = OnOwnSpace(searcher, self.space, space)
        return StartWith(searcher, space, self.given_start) if self.start_with else searcher

    @property
    def given_start(self) -> GivenOptions:
        """The architectures of `start_with`, for as many children as the run has. Raises `ValueError`: bad ones."""
        try:
            return GivenOptions(samples=self.start_with, sources=self.start_sources).for_children(self.max_children)
        except ValueError as error:
            raise ValueError(str(error).replace("`samples`", "`start_with`")) from error

    def with_searcher(self, name: str) -> "RunConfig":
        """Return the run with another searcher and its default options; unchanged if it has this one already."""
        return self if name == self.searcher else replace(self, searcher=name, searcher_options=None)

    @property
    def fuse_seeds(self) -> int:
        """Seeds of one network that are trained as one, at most: one where a child takes no time or may be stopped."""
        alone = self.task.instant or self.stopping.early_stop is not None
        return 1 if alone else self.topology.fuse_seeds

    @property
    def measure(self) -> Measure:
        """The metric that children are compared by."""
        return self.task.entry.measure

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`; `from_json` returns an equal configuration."""
        data = plain(asdict(self))
        del data["task"]["files"]  # it is in `files`, with the others
        if self.objectives == NO_OBJECTIVES:
            del data["objectives"]  # earlier versions did not write it
        if self.topology.fuse_seeds == 1:
            del data["topology"]["fuse_seeds"]  # nor this
        if self.stopping == StoppingOptions():
            del data["stopping"]  # nor this
        if isinstance(self.task.options, NasBench201Options) and self.task.options.latency_device is None:
            del data["task"]["options"]["latency_device"]  # nor this
        if self.logs.replay_log:
            del data["logs"]["replay_log"]  # nor this
        if not data["task"]["all_training"]:
            del data["task"]["all_training"]  # so that earlier versions can read the runs of searches
        if not data["task"]["file_list"]:
            del data["task"]["file_list"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RunConfig":
        """Return the configuration that `to_json` of this version or an earlier one wrote.

        Raises:
            UnknownParts: this version does not know a part or an option, or refuses a value.
        """
        from cluster.config.known_config import UnknownParts, known_config, unknown_text  # it makes a `RunConfig`

        known = known_config(data)
        if known.unknown:
            raise UnknownParts(unknown_text(known.unknown))
        return known.config

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that has not loaded the user's own files cannot find the classes of their options.
        return RunConfig.from_json, (self.to_json(),)


def unchecked(values: Mapping[str, Any]) -> RunConfig:
    """Return a configuration of these values by field, which may not fit together; the others are the default's."""
    config, usual = object.__new__(RunConfig), RunConfig()
    for each in fields(RunConfig):
        object.__setattr__(config, each.name, values.get(each.name, getattr(usual, each.name)))
    return config
