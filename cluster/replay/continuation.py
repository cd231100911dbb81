"""Plans a run that goes on from the beginning of a recorded one with changed options, and writes what it begins with.

The new run is as the recorded one would be if it had been killed at that moment: its children, batches and shards are
there, what had not ended is trained, and what had not been learnt from is learnt from, with the changed options.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.config.flags import UsageError
from cluster.config.run_checks import check_unchanged
from cluster.config.run_config import RunConfig
from cluster.formatting import counted
from cluster.replay.changes import Changed, change
from cluster.replay.difference import NotReplayable
from cluster.replay.shard_history import END
from cluster.replay.until import Beginning
from cluster.runners.build import make_layout, make_parameters
from cluster.storage.ledger.beginning import FirstRows, write_beginning
from cluster.storage.ledger.queries.continued import Continued, continued, continued_text
from cluster.storage.ledger.reader import newer_version, reading
from cluster.storage.run_folder import RunFolder
from controller.searcher import ParameterGroup, keeps_weights, passes_of, shared_weights_of
from ps.shard.messages import ShardState
from ps.shard.order_log import OrderLog, reach, write_order
from ps.shard.snapshot import SnapshotFile


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuation:
    """A run that goes on from the beginning of another one.

    Attributes:
        source: the other run.
        beginning: of it.
        config: the new run's.
        groups: the searcher's parameters in the new run; their values are those at the end of the beginning.
        continues: the runs that the new one goes on from.
    """

    source: RunFolder
    beginning: Beginning
    config: RunConfig
    groups: tuple[ParameterGroup, ...]
    continues: tuple[Continued, ...]

    def write(self, draft: RunFolder, states: Sequence[ShardState]) -> None:
        """Write the new run's ledger and shards, the first files of its folder.

        Args:
            draft: of the new run's folder, without such files.
            states: of the shards at the end of the beginning.

        Raises:
            OSError: a file cannot be written.
        """
        record = self.beginning.record
        rows = FirstRows(
            until=self.beginning.until,
            batch_of={child_id: child.batch for child_id, child in record.children.items()},
            batches=record.batches.keys(),
            learned=self.beginning.learned,
            continues=self.continues,
            message=f"not started yet; it goes on from {continued_text(self.continues)}",
        )
        with reading(self.source) as db:
            write_beginning(draft.ledger, db, rows)
        if not states:
            return
        layout = make_layout(self.config, str(self.config.name), self.groups)
        for index, (state, lineages) in enumerate(zip(states, record.lineages, strict=True)):
            count = reach(lineages[END])
            metadata = state.metadata | {"incarnation": self.beginning.incarnations[index], "membership": {}}
            order = {"order": {"count": count, "tail": ""}} if count else {}
            SnapshotFile(draft.shards, layout, index).write(ShardState(state.tensors, metadata | order))
            applied = {number: lineage for number, lineage in lineages.items() if number != END}
            write_order(OrderLog(draft.shards, index).path, applied)


def continuation_of(
    source: RunFolder, beginning: Beginning, settings: Sequence[str], name: str, storage_path: str
) -> Continuation:
    """Plan a run that goes on from the beginning of another one.

    Args:
        source: the other run.
        beginning: of it.
        settings: the changed options, see `change`.
        name: the new run's.
        storage_path: the folder of both runs.

    Raises:
        NotReplayable: the other run has not recorded all that it takes.
        UsageError: an option cannot be changed, or nothing is left to do.
        ValueError: the options do not fit together, or a file of the user's own has changed.
    """
    stage = beginning.record.stages[-1]
    check_recorded(source, stage.config)
    _check_own(source, beginning)
    changed = change(stage.config, settings)
    check_unchanged(changed.config)
    _check_left(beginning, changed.config)
    groups = _parameters(stage.config, changed)
    here = Continued(
        run=source.name,
        until=beginning.until,
        sampled=beginning.sampled,
        incarnations=beginning.incarnations,
        then=changed.then,
        config=stage.config.to_json(),
    )
    earlier = tuple(one.end for one in beginning.record.stages if one.end is not None)
    return Continuation(
        source=source,
        beginning=beginning,
        config=replace(changed.config, name=name, storage_path=storage_path),
        groups=groups,
        continues=(*earlier, here),
    )


def check_recorded(source: RunFolder, config: RunConfig) -> None:
    """Raise `NotReplayable` if the run has a state that is not recorded, or is where no run can go on from it."""
    searcher, who = config.make_searcher(), f"no run can go on from a beginning of the run {source.name!r}"
    if source.url is not None:
        raise NotReplayable(f"{who}: it is in the object store {source.url}, and must be in a folder of this machine")
    if shared_weights_of(searcher) is not None:
        raise NotReplayable(f"{who}: the weights that its children share are not recorded as they were then")
    if keeps_weights(searcher):
        raise NotReplayable(
            f"{who}: its children begin with the weights of others, which are kept only while the search needs them"
        )
    with reading(source) as db:
        if newer := newer_version(db):
            raise NotReplayable(f"{who}: this version of nascluster does not know {newer}")


def _check_own(source: RunFolder, beginning: Beginning) -> None:
    """Raise `UsageError` if the beginning ends where the run was still another one, with that one's options."""
    number = len(beginning.record.stages) - 1
    with reading(source) as db:
        earlier = continued(db)
    if number < len(earlier):
        raise UsageError(
            f"`--until` must be above {earlier[-1].until:,}, from where on the run {source.name!r} has options of its"
            f" own, got {beginning.until:,}: until then it is the run {earlier[number].run!r}, from which another one"
            " can go on"
        )


def _check_left(beginning: Beginning, config: RunConfig) -> None:
    """Raise `UsageError` unless the new run has children to train."""
    if config.max_children < beginning.sampled:
        raise UsageError(
            f"max-children must be at least {beginning.sampled}, the children that had been sampled then, got"
            f" {config.max_children}"
        )
    if beginning.until == beginning.sampled == config.max_children:
        raise UsageError(
            f"nothing is left to do after {counted(beginning.until, 'child')}, with which the run ends: give `--until`"
            " a smaller number, or `--then max-children=` a larger one"
        )


def _parameters(config: RunConfig, changed: Changed) -> tuple[ParameterGroup, ...]:
    """Return the searcher's parameters with the changed options.

    Raises:
        UsageError: they are not those that the searcher had.
    """
    before, after = config.make_searcher(), changed.config.make_searcher()
    groups = make_parameters(changed.config, after)
    keys = ", ".join(changed.of_searcher)
    if _tensors(groups) != _tensors(make_parameters(config, before)):
        raise UsageError(f"`--then` cannot change {keys}: the searcher would have other parameters than it had then")
    if passes_of(after) != passes_of(before):
        raise UsageError(f"`--then` cannot change {keys}: the updates are counted by how many a batch gives")
    return groups


def _tensors(groups: Sequence[ParameterGroup]) -> list[tuple[str, str, dict[str, tuple[int, ...]]]]:
    return [
        (group.name, group.optimizer, {name: tuple(value.shape) for name, value in group.values.items()})
        for group in groups
    ]
