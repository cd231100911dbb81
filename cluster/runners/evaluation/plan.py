"""What an evaluation has to train, and the run that does it. Nothing is written here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Measure
from cluster.config.flags import UsageError, parse_run, value_of
from cluster.config.recipes import changed
from cluster.config.run_checks import check_unchanged
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import MAX_PARTS, Topology
from cluster.config.trained_alone import trained_alone
from cluster.formatting import first_line
from cluster.runners.evaluation.submitted import Submitted
from cluster.storage.dataset_cache import located
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries.evaluations import EvaluatedRow
from cluster.storage.run_folder import RunFolder
from controller.reward import REWARDS
from controller.searchers.given import GivenOptions
from controller.spaces.listed import EXAMPLES, ListedSpace

SPACE, SEARCHER = "listed", "given"
"""The parts of a run that evaluates given architectures."""

FIXED = ("searcher", "searcher_options", "space", "space_options", "max_children", "start_with")
"""Fields that follow from the architectures, and that no flag may change."""

FIXED_TOPOLOGY = ("replicas", "shards", "children", "batching")
"""Likewise, of the topology: one replica has all architectures in training at once, as far as there are workers."""

FREE = (
    *("name", "storage_path", "recipe", "local", "topology", "failures", "logs", "metrics", "callbacks", "ceilings"),
    *FIXED,
)
"""Fields in which a later call of one name may differ: they do not change what an architecture reaches."""

EARLIER = "an earlier call"
"""Where an architecture is from that was given before."""


def configured(flags: Sequence[str], kind: str | None, recorded: RunConfig | None, like: RunConfig | None) -> RunConfig:
    """Return the run that the flags make, with an example in place of the architectures.

    Args:
        flags: of `nascluster launch`.
        kind: of the architectures, where they have one.
        recorded: the run, if there is one of this name.
        like: a search as whose children they are trained.

    Raises:
        UsageError: a flag is unknown, or changes what must stay.
        ValueError: a value is invalid.
    """
    if value_of(flags, "--early-stop") is not None:
        raise UsageError(
            "`early-stop` is for searches, and an evaluation trains each architecture to its last epoch: leave it out"
        )
    base = _base_again(recorded) if recorded else _base_like(like) if like else _base(flags, kind)
    made = parse_run(base, list(flags), "RECIPE")
    wrong = [name for name in changed(base, made) if name in FIXED]
    wrong += [name for name in FIXED_TOPOLOGY if getattr(made.topology, name) != getattr(base.topology, name)]
    if wrong:
        raise UsageError(
            f"`{wrong[0].replace('_', '-')}` of an evaluation follows from its architectures: leave it out"
        )
    made = _located(made)
    if recorded is None:
        return made
    check_unchanged(made)
    if others := _others(base, made):
        raise UsageError(f"{_begun_with(recorded, others)}: give the same flags or none, or another `--name`")
    if like is not None and (others := _others(base, _located(parse_run(_base_like(like), list(flags), "RECIPE")))):
        raise UsageError(
            f"{_begun_with(recorded, others)} than the search {like.name!r} has: give the flags with which it was"
            " begun, or another `--name`"
        )
    return made


def _located(config: RunConfig) -> RunConfig:
    return replace(config, task=replace(config.task, data=located(config.task.data)))


def _others(ours: RunConfig, theirs: RunConfig) -> list[str]:
    """Return the fields in which two runs differ so that an architecture may reach something else."""
    return [name for name in changed(ours, theirs) if name not in FREE]


def _begun_with(recorded: RunConfig, others: Sequence[str]) -> str:
    return f"the run {recorded.name!r} was begun with another {' and '.join(others)}"


def _base(flags: Sequence[str], kind: str | None) -> RunConfig:
    """Return the run on the task that the flags name, with the task's usual budget, as training by hand has it."""
    task = value_of(flags, "--task")
    if task is None:
        raise UsageError("name the task on which the architectures are to be trained, as in `--task digits`")
    options = TaskOptions(task=task)
    entry = options.entry
    fitting = [name for name, reward in REWARDS.items() if entry.measure in reward.measures]
    return RunConfig(
        task=replace(options, options=entry.usual_options),
        budget=entry.usual,
        reward="accuracy" if entry.measure in (Measure.ACCURACY, Measure.SCORE) else fitting[0],
        topology=TOPOLOGY,
        **_parts(kind if kind in entry.kinds else entry.kinds[0]),
    )


def _base_like(like: RunConfig) -> RunConfig:
    """Return the run that trains as another one does."""
    return replace(
        trained_alone(like, children=1),
        name=None,
        recipe="",
        task=replace(like.task, file_list=""),  # its data may be another copy
        **_parts(like.search_space.kind),
    )


def _base_again(recorded: RunConfig) -> RunConfig:
    topology = replace(recorded.topology, children=1)
    return replace(recorded, topology=topology, **_parts(recorded.search_space.kind))


TOPOLOGY = Topology(replicas=1, shards=1, children=1, batching="stream")


def _parts(kind: str) -> dict[str, Any]:
    """Return the fields of a run with an example of this kind alone."""
    example = ListedSpace().with_more([EXAMPLES[kind]])  # pyright: ignore[reportArgumentType]
    return {
        "space": SPACE,
        "space_options": example,
        "searcher": SEARCHER,
        "searcher_options": GivenOptions(samples=("0",)),
        "max_children": 1,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What an evaluation has to do.

    Attributes:
        config: the run that does it.
        ids: the canonical id of what was given, in its order; `None` for what cannot be trained.
        faults: why, by the place in that order.
        known: the ids of the architectures that had been evaluated before.
        trains: whether anything is left to train.
    """

    config: RunConfig
    ids: Sequence[str | None]
    faults: Mapping[int, str]
    known: frozenset[str]
    trains: bool


def plan(
    submitted: Sequence[Submitted], config: RunConfig, recorded: RunConfig | None, rows: Sequence[EvaluatedRow]
) -> Plan:
    """Return what is to be done.

    Args:
        submitted: what was given.
        config: the run, as `configured` returns it.
        recorded: the run as it is, if there is one of this name.
        rows: its children.
    """
    before = _list_of(recorded)
    places = {row.architecture_id: row.place for row in rows}
    ended = {row.place for row in rows if row.outcome is not None}
    begun = {row.place for row in rows}
    for place in range(len(before.architectures)):
        if place not in begun:
            places[before.decode([place]).id] = place
    ids: list[str | None] = []
    faults: dict[int, str] = {}
    new: dict[str, Submitted] = {}
    for number, each in enumerate(submitted):
        architecture = each.architecture
        fault = each.fault if architecture is None else ""
        if architecture is not None and architecture.id not in places and architecture.id not in new:
            fault = _fault(architecture, config, _kind_of(before, new))
            if not fault:
                new[architecture.id] = each
        ids.append(architecture.id if architecture and not fault else None)
        if fault:
            faults[number] = fault
    known = frozenset(row.architecture_id for row in rows if row.outcome is not None)
    wanted = {id for id in ids if id is not None}
    space = before.with_more([each.architecture for each in new.values() if each.architecture])
    left = [place for place in range(len(space.architectures)) if place not in ended]
    if left:
        config = _with_architectures(config, space, left, _sources(recorded, before, new))
    return Plan(config=config, ids=ids, faults=faults, known=known, trains=bool(wanted - known))


def _kind_of(before: ListedSpace, new: Mapping[str, Submitted]) -> str | None:
    """Return the kind of the run's architectures, which all have one; `None` before the first."""
    if before.architectures:
        return before.kind
    first = next(iter(new.values()), None)
    return first.architecture.kind if first and first.architecture else None


def _list_of(recorded: RunConfig | None) -> ListedSpace:
    space = recorded.search_space if recorded else ListedSpace()
    assert isinstance(space, ListedSpace)
    return space


def _fault(architecture: Architecture, config: RunConfig, kind: str | None) -> str:
    """Return why an architecture cannot be trained, as far as that is known before; empty if it may be."""
    entry = config.task.entry
    if architecture.kind not in entry.kinds:
        kinds = " and ".join(entry.kinds)
        return f"the task {config.task.task!r} trains {kinds} architectures, got a {architecture.kind} one"
    if kind not in (None, architecture.kind):
        return f"the run's architectures are {kind} ones, got a {architecture.kind} one: give it another `--name`"
    if entry.problem is None:
        return ""
    from child_trainer.networks.build import classifier_on_meta

    try:
        classifier_on_meta(architecture, entry.problem, config.budget.regime)
    except (ValueError, RuntimeError, OverflowError, MemoryError) as error:
        return first_line(str(error)) or type(error).__name__
    return ""


def _sources(recorded: RunConfig | None, before: ListedSpace, new: Mapping[str, Submitted]) -> dict[int, str]:
    """Return where the architectures are from, by their place, as far as that is known."""
    sources: dict[int, str] = {}
    if recorded is not None and isinstance(options := recorded.searcher_options, GivenOptions) and options.sources:
        sources = dict(zip((tokens[0] for tokens in options.tokens), options.sources, strict=True))
    return sources | {len(before.architectures) + index: each.source for index, each in enumerate(new.values())}


def _with_architectures(
    config: RunConfig, space: ListedSpace, left: Sequence[int], sources: Mapping[int, str]
) -> RunConfig:
    """Return the run with a list, and those of its places that are left to be trained."""
    return replace(
        config,
        space_options=space,
        searcher_options=GivenOptions(
            samples=tuple(map(str, left)), sources=tuple(sources.get(place, EARLIER) for place in left)
        ),
        max_children=len(space.architectures),
        topology=replace(config.topology, children=min(MAX_PARTS, len(left))),
    )


def check_evaluates(folder: RunFolder, config: RunConfig) -> None:
    """Raise `RunFolderError` if a run is a search."""
    if config.space != SPACE or config.searcher != SEARCHER:
        raise RunFolderError(
            f"the run {folder.name!r} is a search, to which no architectures can be added: give another `--name`"
        )
