"""Reads what a run has recorded for a replay, and says where it has not."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.config.known_config import UnknownParts
from cluster.config.run_config import RunConfig
from cluster.formatting import counted
from cluster.replay.difference import NotReplayable
from cluster.replay.shard_history import end_of, normalised
from cluster.runners.build import make_layout, make_parameters
from cluster.search.origin import Origin
from cluster.storage.ledger.queries.continued import Continued, continued
from cluster.storage.ledger.queries.replays import (
    ReplayedBatch,
    ReplayedChild,
    replayed_batches,
    replayed_children,
)
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.searcher import ParameterGroup, Searcher, passes_of, shared_weights_of
from ps.errors import StoreError
from ps.shard.messages import ShardState
from ps.shard.order import Order, Start
from ps.shard.order_log import IncompleteOrder, Lineage, OrderLog, read_order
from ps.shard.snapshot import SnapshotFile
from ps.store import Layout


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stage:
    """A part of a run with one configuration: all of it, unless it goes on from another run with changed options.

    Attributes:
        config: the run's.
        groups: the searcher's parameters, with their initial values.
        layout: of the parameters, in which no client waits; `None` if there are none.
        end: where another stage follows; `None` for the last one.
    """

    config: RunConfig
    groups: tuple[ParameterGroup, ...]
    layout: Layout | None
    end: Continued | None = None

    def has_seen(self, incarnations: Sequence[int]) -> bool:
        """Return whether a step that saw these incarnations of the shards is of this stage or an earlier one."""
        return self.end is None or not any(map(operator.gt, incarnations, self.end.incarnations))


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a run has recorded.

    Attributes:
        stages: the run's, at least one.
        children: by id, in that order.
        origins: what each was sampled from, by id.
        batches: by replica and number.
        lineages: of each shard, by incarnation.
        states: each shard's newest snapshot; none where a replay is to compare none.
    """

    stages: tuple[Stage, ...]
    children: Mapping[int, ReplayedChild]
    origins: Mapping[int, Origin]
    batches: Mapping[tuple[int, int], ReplayedBatch]
    lineages: tuple[Mapping[int, Lineage], ...]
    states: tuple[ShardState, ...]

    @property
    def passes(self) -> int:
        """How many updates a replica makes for each batch, the same in all stages."""
        return passes_of(self.stages[-1].config.make_searcher())

    @property
    def layout(self) -> Layout | None:
        """The layout of the parameters in the last stage; the other stages have the same tensors."""
        return self.stages[-1].layout

    def stage_of_child(self, child_id: int) -> Stage:
        """Return the stage in which a child was sampled."""
        return next(stage for stage in self.stages if stage.end is None or child_id <= stage.end.sampled)

    def stage_of_outcome(self, completion: int | None) -> Stage:
        """Return the stage in which a child ended, or is to end."""
        ended = (
            completion is not None and (stage.end is None or completion <= stage.end.until) for stage in self.stages
        )
        return next((stage for stage, found in zip(self.stages, ended, strict=True) if found), self.stages[-1])

    def stage_of_update(self, incarnations: Sequence[int]) -> Stage:
        """Return the stage in which an update was computed, from these incarnations of the shards."""
        return next(stage for stage in self.stages if stage.has_seen(incarnations))

    def layout_of(self, shard: int, incarnation: int) -> Layout:
        """Return the layout that an incarnation of a shard had."""
        stage = next(one for one in self.stages if one.end is None or incarnation <= one.end.incarnations[shard])
        assert stage.layout is not None
        return stage.layout


def read_record(folder: RunFolder) -> Record:
    """Return what a run has recorded.

    Raises:
        NotReplayable: it runs, its searcher or its shards cannot be replayed, or it has not recorded all that it takes.
        RunFolderError: the folder is damaged.
    """
    config = folder.read_config()
    if folder.is_held():
        raise NotReplayable(
            f"the run {folder.name!r} is running: replay it once it has ended, or `{folder.command('stop')}`"
        )
    with reading(folder) as db:
        children, batches, earlier = replayed_children(db), replayed_batches(db), continued(db)
    run = folder.identity(config)
    stages = [_stage(folder, run, end) for end in (*earlier, None)]
    last, origins = stages[-1], _origins(folder, children)
    lineages: list[Mapping[int, Lineage]] = []
    states: list[ShardState] = []
    for index in range(last.layout.shards if last.layout and children else 0):
        assert last.layout is not None
        state, found = _shard(folder, last.layout, index)
        states.append(state)
        lineages.append(found)
    return Record(
        stages=tuple(replace(stage, layout=stage.layout and _without_waiting(stage.layout)) for stage in stages),
        children=children,
        origins=origins,
        batches=batches,
        lineages=tuple(lineages),
        states=tuple(states),
    )


def _stage(folder: RunFolder, run: str, end: Continued | None) -> Stage:
    """Return the stage that ends so; the last one has the run's own configuration.

    Raises:
        NotReplayable: it cannot be replayed.
    """
    try:
        config = folder.read_config() if end is None else RunConfig.from_json(end.config)
    except UnknownParts as error:
        raise NotReplayable(f"the run {folder.name!r} goes on from one of another version: {error}") from error
    searcher = config.make_searcher()
    _check(config, searcher)
    groups = make_parameters(config, searcher)
    return Stage(config=config, groups=groups, layout=make_layout(config, run, groups) if groups else None, end=end)


def _check(config: RunConfig, searcher: Searcher) -> None:
    shared = shared_weights_of(searcher)
    if shared is not None and shared.moves_strengths:
        raise NotReplayable(
            f"the searcher {config.searcher} cannot be replayed: its parameters are learnt with the weights that its"
            " children share, by training"
        )
    if config.topology.consistency == "sync":
        raise NotReplayable(
            "a run with `consistency` sync cannot be replayed: the order in which its replicas join and leave is not"
            " recorded"
        )


def _origins(folder: RunFolder, children: Mapping[int, ReplayedChild]) -> dict[int, Origin]:
    without = [child_id for child_id, child in children.items() if not child.origin]
    if without:
        raise NotReplayable(
            f"the run {folder.name!r} has not recorded what {counted(len(without), 'child')} of"
            f" {len(children)} were sampled from, the first of them {without[0]}: it was launched with --no-replay-log,"
            " or by an earlier version"
        )
    try:
        return {child_id: Origin.from_text(child.origin) for child_id, child in children.items()}
    except ValueError as error:
        raise NotReplayable(f"the ledger {folder.ledger} is damaged: {error}") from error


def _shard(folder: RunFolder, layout: Layout, index: int) -> tuple[ShardState, dict[int, Lineage]]:
    """Return a shard's newest snapshot, and what its incarnations have applied."""
    try:
        state = SnapshotFile(folder.shards, layout, index).newest()
        if state is None:
            raise NotReplayable(f"shard {index} of the run {folder.name!r} has written nothing into {folder.shards}")
        order, incarnation = Order.restored(state.metadata), state.metadata["incarnation"]
        last = Start(incarnation, incarnation, order.count, order.pushes)
        lineages = read_order(OrderLog(folder.shards, index).path, last)
    except (IncompleteOrder, StoreError) as error:
        raise NotReplayable(str(error)) from error
    applied = state.metadata["pushes"] + state.metadata.get("dropped", 0)
    if applied > order.count:
        raise NotReplayable(
            f"shard {index} of the run {folder.name!r} has applied {applied} updates, and recorded {order.count} of"
            " them: the others came from an earlier version"
        )
    return state, normalised(lineages, end_of(lineages, incarnation, order.count))


def _without_waiting(layout: Layout) -> Layout:
    """Return the layout of shards that apply each push when it comes: the recorded order has all waiting in it."""
    rules = replace(layout.consistency, mode="async", bound=0, members=())
    return replace(layout, consistency=rules)
