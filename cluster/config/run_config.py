"""The configuration of a run: all options of `nascluster launch`. No torch, no Ray.

Options are defined next to what they configure (the space, the searcher, a child's budget); this module collects them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any, Literal

import tyro

from child_trainer import own_files, portable_json
from child_trainer.field_types import check_types
from child_trainer.outcome import Budget, Measure
from child_trainer.own_files import OwnFileError
from child_trainer.tasks.nasbench201_options import NasBench201Options
from cluster.config.callback_options import CallbackOptions
from cluster.config.ceilings import CeilingOptions
from cluster.config.failure_options import FailureOptions
from cluster.config.log_options import LogOptions
from cluster.config.metrics_options import MetricsOptions
from cluster.config.objective_options import NO_OBJECTIVES, ObjectiveOptions, check_objectives
from cluster.config.plain_data import default_options, known, known_values, plain, unknown_part
from cluster.config.task_options import TaskOptions, known_task, with_former_regime
from cluster.config.topology import AUTO, Topology
from cluster.config.weights_options import WeightsOptions
from controller.catalogue import SEARCHERS, SearcherEntry
from controller.own_parts import find_reward, find_searcher, find_space
from controller.reward import REWARDS, Reward
from controller.searcher import Searcher
from controller.searchers.given import GivenOptions
from controller.searchers.start import StartWith
from controller.space import SearchSpace
from controller.spaces.catalogue import SpaceEntry
from controller.stopping.options import StoppingOptions

DEFAULT_STORAGE = "~/nascluster_runs"

MAX_CHILDREN = 1_000_000_000
"""Upper bound for `max_children`; a larger number is taken for a typo."""

ALWAYS_WRITTEN = ("max_children", "searcher", "space", "task", "topology")
"""Fields that every version has written into a run's configuration."""

FORMER_FIELDS = {
    "reinforce": "reinforce",
    "evolution": "evolution",
    "local-search": "local_search",
    "convolutional": "convolutional",
    "recurrent": "recurrent",
    "nasbench201": "nasbench201",
}
"""The field in which earlier versions wrote a searcher's or space's options, whether the run used them or not."""

STAND_INS = {"searcher": "random", "space": "convolutional", "reward": "accuracy"}
"""The parts that stand for those that this version does not know."""

STAND_IN_TASKS = {Measure.ACCURACY: "digits", Measure.PERPLEXITY: "text", Measure.SCORE: "synthetic"}
"""The tasks that stand for those that this version does not know, by what their metric is."""


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
        _check_seed(self.seed)
        _check_max_children(self.max_children)
        _check_name(self.name)
        self._resolve()
        self._check_task()
        check_objectives(
            self.objectives, self.task, self.searcher, self.searcher_entry, gpus=bool(self.topology.gpus_per_child)
        )
        self._check_start()
        self._check_stopping()
        self._check_shared_processes()
        if self.topology.gpus_per_child == AUTO and not self.task.entry.trains:
            raise ValueError(
                f"`gpus_per_child` auto is for tasks that train networks, and the task {self.task.task!r} trains"
                " nothing: leave it out"
            )

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
        searcher = self.searcher_entry.build(self.search_space, self.searcher_options, self.max_children, costs)
        return StartWith(searcher, self.search_space, self._start) if self.start_with else searcher

    @property
    def _start(self) -> GivenOptions:
        try:
            return GivenOptions(samples=self.start_with, sources=self.start_sources).for_children(self.max_children)
        except ValueError as error:
            raise ValueError(str(error).replace("`samples`", "`start_with`")) from error

    def with_searcher(self, name: str) -> "RunConfig":
        """Return the run with another searcher and its default options; unchanged if it has this one already."""
        return self if name == self.searcher else replace(self, searcher=name, searcher_options=None)

    @property
    def measure(self) -> Measure:
        """The metric that children are compared by."""
        return self.task.entry.measure

    def _check_task(self) -> None:
        """Raise `ValueError` unless the task takes the space's architectures, and the reward the task's metric."""
        task, name = self.task.entry, self.task.task
        kind = self.search_space.kind
        if kind not in task.kinds:
            raise ValueError(
                f"the task {name!r} trains {' and '.join(task.kinds)} architectures; the space {self.space!r} has"
                f" {kind} ones"
            )
        if self.measure not in self.reward_entry.measures:
            fitting = [reward for reward, entry in REWARDS.items() if self.measure in entry.measures]
            raise ValueError(
                f"the reward {self.reward!r} does not judge the {self.measure} of the task {name!r}; use"
                f" {' or '.join(fitting)}"
            )
        task.check_budget(self.budget)
        # Of given architectures each may be in a table or not, which its answer says.
        if not (task.family == "table" and self.space == "listed"):
            task.check_space(name, self.space, vars(self.search_space))

    def _check_start(self) -> None:
        """Raise `ValueError` unless the searcher can go on after the given architectures; one of the user's own may."""
        if not self.start_with:
            return
        if not (self.searcher_entry.learns_from_any or own_files.is_own(self.searcher)):
            able = ", ".join(name for name, entry in SEARCHERS.items() if entry.learns_from_any)
            raise ValueError(
                "`start_with` is for searchers that learn from any architecture, also one that they did not propose"
                f" ({able}); {self.searcher!r} learns only from its own"
            )
        _ = self._start

    def _check_stopping(self) -> None:
        """Raise `ValueError` if children cannot be stopped early: they are not trained epoch by epoch, or too few.

        The same error is raised if more than their metric counts. Whether they share weights is known only of a
        searcher that is made, and is checked at the launch, `cluster.runners.build.check_layout`.
        """
        if self.stopping.early_stop is None:
            return
        if not self.task.entry.trains:
            raise ValueError(
                f"`early_stop` is for tasks that train networks epoch by epoch, and the task {self.task.task!r} trains"
                " nothing"
            )
        if self.objectives.costs:
            raise ValueError(
                "`early_stop` is for searches that compare children by their metric alone, and `objective`"
                f" {self.objectives.costs[0].name} counts beside it: leave one of the two out"
            )
        self.stopping.check(self.budget.epochs, self.max_children)

    def _check_shared_processes(self) -> None:
        shared = self.topology.workers_per_process
        alone = {
            "`task` that trains": self.task.entry.trains,
            "`child_faults`": bool(self.task.faults),
            "`child_timeout`": self.failures.child_timeout is not None,
            "`recycle_after`": self.failures.recycle_after is not None,
            "`gpus_per_child`": bool(self.topology.gpus_per_child),
        }
        if shared > 1 and (needs := next((what for what, is_set in alone.items() if is_set), None)):
            raise ValueError(
                f"`workers_per_process` must be 1 with a {needs}, which needs one process for each worker, got {shared}"
            )

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
        known = known_config(data)
        if known.unknown:
            raise UnknownParts(unknown_text(known.unknown))
        return known.config

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that has not loaded the user's own files cannot find the classes of their options.
        return RunConfig.from_json, (self.to_json(),)


def _check_seed(seed: int) -> None:
    """Refuse a seed that config.json, read as JSON by other programs, would change."""
    if abs(seed) > portable_json.MAX_INTEGER:
        raise ValueError(f"`seed` must be from {-portable_json.MAX_INTEGER} to {portable_json.MAX_INTEGER}, got {seed}")


def _check_max_children(number: int) -> None:
    if not 1 <= number <= MAX_CHILDREN:
        limit = "at least 1" if number < 1 else f"at most {MAX_CHILDREN:,}"
        raise ValueError(f"`max_children` must be {limit}, got {number}")


def _check_name(name: str | None) -> None:
    if name is not None and (not name or name[0] in ".-" or set(name) & set("/\\\0")):
        raise ValueError(f"`name` must be a folder's name without slashes or a leading dot or dash, got {name!r}")


def check_unchanged(config: RunConfig) -> None:
    """Raise `OwnFileError` if one of the user's own files differs from the text that the run keeps.

    Raises:
        OwnFileError: one has changed; with another searcher or task it would be another run. A missing file is allowed.
    """
    for file, text in config.files.items():
        try:
            now = own_files.text_of(file)
        except OwnFileError:
            continue  # the file is missing: the run has its text
        if now != text:
            raise OwnFileError(
                f"{file!r} has changed since the run was launched (digest {own_files.digest(text)}, now"
                f" {own_files.digest(now)}): restore it, or resume from a folder without it, to use the text"
                " that the run keeps"
            )


class UnknownParts(ValueError):
    """A configuration has parts that this version does not know; the message is a clause that names them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownConfig:
    """A configuration as far as this version knows it.

    Attributes:
        config: the configuration. An unknown part has a stand-in, and an unknown value is the default.
        names: the names of the searcher, the space, the reward and the task, which this version may not know.
        unknown: a clause on each part that it does not know; without one, `config` is the whole configuration.
        data: the configuration as it was written.
    """

    config: RunConfig
    names: Mapping[str, str]
    unknown: tuple[str, ...]
    data: Mapping[str, Any]

    @property
    def knows_task(self) -> bool:
        """Whether this version knows the task, though perhaps not all of its options."""
        return self.config.task.task == self.names["task"]

    def measured_by(self, measure: Measure) -> RunConfig:
        """Return the configuration, in which a task of this measure stands for one that this version does not know."""
        if self.knows_task:
            return self.config
        return unchecked({**vars(self.config), "task": TaskOptions(task=STAND_IN_TASKS[measure])})


def is_configuration(text: bytes) -> bool:
    """Return whether this is a run's config.json, of any version; other programs have a file of this name, too."""
    try:
        data = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and all(name in data for name in ALWAYS_WRITTEN)


def known_config(data: Mapping[str, Any]) -> KnownConfig:
    """Return the configuration that `RunConfig.to_json` of any version wrote, as far as this version knows it."""
    data = with_former_regime(data)
    apart = ("searcher_options", "space_options", "task", *FORMER_FIELDS.values())
    values, clauses = known_values(RunConfig, {name: value for name, value in data.items() if name not in apart}, "")
    unknown = [*clauses, *_beyond_limits(values)]
    names = {what: values.setdefault(what, getattr(RunConfig, what)) for what in ("searcher", "space", "reward")}
    with own_files.using(values.get("files", {})):
        unknown += _known_part("searcher", find_searcher, data, values)
        unknown += _known_part("space", find_space, data, values)
        try:
            find_reward(values["reward"])
        except ValueError as error:
            unknown.append(unknown_part("reward", values["reward"], error))
            values["reward"] = STAND_INS["reward"]
        written = data.get("task", {})
        values["task"], clauses = known_task(written)
        unknown += clauses
        names["task"] = str(written.get("task", TaskOptions.task)) if isinstance(written, Mapping) else "unknown"
        config = unchecked(values)
        if not unknown:
            try:
                config = RunConfig(**values)
            except ValueError as error:
                unknown.append(f"such a combination ({error})")
    return KnownConfig(config=config, names=names, unknown=tuple(unknown), data=data)


def _beyond_limits(values: dict[str, Any]) -> Iterator[str]:
    """Remove the values that are beyond the limits of this version; yield a clause on each."""
    for name, check in (("seed", _check_seed), ("max_children", _check_max_children), ("name", _check_name)):
        try:
            check(values.get(name, getattr(RunConfig, name)))
        except ValueError as error:
            yield f"the value of `{name}` ({error})"
            del values[name]


def _known_part(
    what: Literal["searcher", "space"],
    find: Callable[[str], SearcherEntry | SpaceEntry],
    data: Mapping[str, Any],
    values: dict[str, Any],
) -> tuple[str, ...]:
    """Set the options of the searcher or space, or else its stand-in, in the values; return the clauses on it.

    Earlier versions wrote the options of every part, by the part's name.
    """
    name, field_name = values[what], f"{what}_options"
    try:
        former = data.get(FORMER_FIELDS.get(name, ""), {})
        options = data.get(field_name, former)
        values[field_name], clauses = known(find(name).options, options, field_name, checked=not own_files.is_own(name))
    except ValueError as error:
        values |= {what: STAND_INS[what], field_name: find(STAND_INS[what]).options()}
        return (unknown_part(what, name, error),)
    return clauses


def unchecked(values: Mapping[str, Any]) -> RunConfig:
    """Return a configuration of these values by field, which may not fit together; the others are the default's."""
    config, usual = object.__new__(RunConfig), RunConfig()
    for each in fields(RunConfig):
        object.__setattr__(config, each.name, values.get(each.name, getattr(usual, each.name)))
    return config


def unknown_text(unknown: Sequence[str]) -> str:
    """Return a clause on what this version does not know of a run."""
    return f"this version of nascluster does not know {'; '.join(unknown)}"
