"""The configuration of a run: all options of `nascluster launch`. No torch, no Ray.

Options are defined next to what they configure (the space, the searcher, a child's budget); this module collects them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

from child_trainer import own_files
from child_trainer.outcome import Budget, Measure
from child_trainer.own_files import OwnFileError
from cluster.config.callback_options import CallbackOptions
from cluster.config.failure_options import FailureOptions
from cluster.config.log_options import LogOptions
from cluster.config.metrics_options import MetricsOptions
from cluster.config.plain_data import default_options, plain, restore, restore_value
from cluster.config.task_options import TaskOptions, task_options_from_json, with_former_regime
from cluster.config.topology import Topology
from controller.catalogue import SearcherEntry, SpaceEntry
from controller.own_parts import find_reward, find_searcher, find_space
from controller.reward import REWARDS, Reward
from controller.space import SearchSpace

T = TypeVar("T")

DEFAULT_STORAGE = "~/nascluster_runs"

MAX_CHILDREN = 1_000_000_000
"""Upper bound for `max_children`; a larger number is taken for a typo."""

FORMER_FIELDS = {"local-search": "local_search"}
"""Earlier versions' field of a searcher's or space's options, where its name differs from the part's."""


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
    task: TaskOptions = field(default_factory=TaskOptions)
    """What children are trained on"""
    budget: Budget = field(default_factory=Budget)
    """What one child may use"""
    topology: Topology = field(default_factory=Topology)
    """How many replicas, shards and workers there are"""
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
    files: Annotated[Mapping[str, str], tyro.conf.Suppress] = field(default_factory=dict, hash=False)
    """The text of each file of the user's own that the run uses, by the file's name as it was typed."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_children <= MAX_CHILDREN:
            limit = "at least 1" if self.max_children < 1 else f"at most {MAX_CHILDREN:,}"
            raise ValueError(f"`max_children` must be {limit}, got {self.max_children}")
        if self.name is not None and (not self.name or self.name[0] in ".-" or set(self.name) & set("/\\\0")):
            raise ValueError(
                f"`name` must be a folder's name without slashes or a leading dot or dash, got {self.name!r}"
            )
        self._resolve()
        self._check_task()
        self._check_shared_processes()

    def _resolve(self) -> None:
        """Look the parts up by their names, keep the texts of the user's own files, and fill in options."""
        parts = (self.searcher, self.space, self.reward, self.task.task)
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
        if shared > 1 and (needs := next((what for what, is_set in alone.items() if is_set), None)):
            raise ValueError(
                f"`workers_per_process` must be 1 with a {needs}, which needs one process for each worker, got {shared}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`; `from_json` returns an equal configuration."""
        data = plain(asdict(self))
        del data["task"]["files"]  # it is in `files`, with the others
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RunConfig":
        """Return the configuration that `to_json` of this version or an earlier one wrote.

        Raises:
            ValueError: a part is unknown, or a value is invalid.
        """
        files = data.get("files", {})
        with own_files.using(files):
            searcher, space = data.get("searcher", cls.searcher), data.get("space", cls.space)
            restored = {
                "searcher_options": _restore_options(data, "searcher", searcher, find_searcher(searcher)),
                "space_options": _restore_options(data, "space", space, find_space(space)),
            }
            others = {name: value for name, value in data.items() if name not in (*restored, "task")}
            if "task" in data:
                restored["task"] = task_options_from_json(data["task"])
                others["budget"] = with_former_regime(others.get("budget", {}), data["task"])
            hints, known = get_type_hints(cls), {field.name for field in fields(cls)}
            values = {name: restore_value(hints[name], value) for name, value in others.items() if name in known}
            return cls(**values, **restored)

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that has not loaded the user's own files cannot find the classes of their options.
        return RunConfig.from_json, (self.to_json(),)


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


def _restore_options(data: dict[str, Any], what: str, name: str, entry: SearcherEntry | SpaceEntry) -> Any:
    """Return the options of the searcher or space; earlier versions wrote those of every part, by the part's name."""
    former = data.get(FORMER_FIELDS.get(name, name), {})
    return restore(entry.options, data.get(f"{what}_options", former))
