"""Shortens a record to what the run had done when so many children had ended.

Time does not say what that is: clocks differ between machines. What each step saw does. A request for children belongs
to the beginning if fewer had ended when it was made, and an update if not more had when it was computed, so that the
children that count have been learnt from. Of each shard's updates those count that came before the first one that does
not belong. So nothing that belongs was computed from what does not: it saw that, and so that more children had ended.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.replay.difference import Difference, NotReplayable
from cluster.replay.lookups import Place, Sent, origin_of, place_of, seen_of, sent_of
from cluster.replay.record import Record, Stage
from cluster.replay.shard_history import END, Seen
from cluster.search.learning import last_batch_of
from cluster.search.origin import Origin
from cluster.search.replica import client
from cluster.storage.ledger.queries.replays import ReplayedBatch, ReplayedChild
from ps.shard.order import Applied
from ps.shard.order_log import Lineage, pushes_of, reach


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """The beginning of a run.

    Attributes:
        record: of it. A child that had not ended has no outcome, a batch that was not learnt from no staleness, and
            there are no snapshots.
        until: how many children had ended.
        learned: the batches of which every shard has all updates, and whose rows say so of these.
        incarnations: the last one of each shard.
    """

    record: Record
    until: int
    learned: frozenset[Place]
    incarnations: tuple[int, ...]

    @property
    def sampled(self) -> int:
        """How many children were sampled: those with an id up to this one."""
        return len(self.record.children)


def beginning_of(record: Record, until: int) -> Beginning:
    """Return the beginning of a run, until so many children had ended.

    Raises:
        NotReplayable: no child had ended, or not so many.
        Difference: a child that had ended was sampled later.
    """
    ended = sum(child.completion is not None for child in record.children.values())
    if not 1 <= until <= ended:
        limit = f"from 1 to {ended:,}, the children of the run that have ended" if ended else "less: no child has ended"
        raise NotReplayable(f"`--until` must be {limit}, got {until:,}")
    number = next(n for n, stage in enumerate(record.stages) if stage.end is None or until <= stage.end.until)
    stage = record.stages[number]
    children = _sampled(record, until)
    shards = _shards(record, until, children, stage)
    passes = record.passes
    places = _formed(record, until, children, shards, passes)
    learned = _learned(places, shards, passes) if shards else places & _whole(record, until)
    # The row of a batch that was learnt from again later, as a shard had lost its update, says what came of that.
    learned -= {place_of(one, passes) for shard in shards for _, one in shard.applied[shard.count :]}
    batches = {place: batch for place, batch in record.batches.items() if place in places}
    shortened = replace(
        record,
        stages=(*record.stages[:number], replace(stage, end=None)),
        children={child_id: _until(child, until, places) for child_id, child in children.items()},
        origins={child_id: record.origins[child_id] for child_id in children},
        batches={
            place: batch if place in learned else ReplayedBatch(batch.versions, ()) for place, batch in batches.items()
        },
        lineages=tuple(shard.shortened for shard in shards),
        states=(),
    )
    incarnations = tuple(shard.last for shard in shards)
    return Beginning(record=shortened, until=until, learned=frozenset(learned), incarnations=incarnations)


def _sampled(record: Record, until: int) -> dict[int, ReplayedChild]:
    """Return the children that were sampled before the last of these had ended, by id."""
    later = min((child_id for child_id, origin in record.origins.items() if origin.completed >= until), default=None)
    children = {child_id: child for child_id, child in record.children.items() if later is None or child_id < later}
    for child_id, child in record.children.items():
        if child_id not in children and child.completion is not None and child.completion <= until:
            raise Difference(
                f"the row of child {child_id} in the ledger has the completion {child.completion}, and that of child"
                f" {later}, which was sampled before it, an origin in which {until} children had ended"
            )
    return children


def _until(child: ReplayedChild, until: int, places: Iterable[Place]) -> ReplayedChild:
    """Return a child as it was: without its outcome if it ended later, and its batch if that was formed later."""
    batch = child.batch if (child.replica, child.batch) in places else 0
    if child.completion is not None and child.completion <= until:
        return replace(child, batch=batch)
    return replace(child, batch=batch, record=replace(child.record, outcome=None, reward=None), completion=None)


class _Shard:
    """The beginning of one shard's history.

    Args:
        lineages: what its incarnations have applied.
    """

    def __init__(self, lineages: Mapping[int, Lineage]) -> None:
        self._lineages = lineages
        numbers = sorted(lineages.keys() - {END})
        self.applied: Sequence[tuple[int, Applied]] = [
            (number, one) for number in numbers for one in lineages[number].pushes
        ]
        """Its updates in the order in which they came, with their incarnations."""
        self.count = len(self.applied)
        """How many of them belong to the beginning."""
        self.last = 1
        """The last incarnation that does."""
        self._incarnations = [number for number, _ in self.applied]
        self._versions = {number: [one.version for one in lineages[number].pushes] for number in numbers}

    def cut(self, excluded: Mapping[Sent, object]) -> None:
        """Let only the updates belong that came before the first of the excluded ones."""
        self.count = next((n for n, (_, one) in enumerate(self.applied) if sent_of(one) in excluded), self.count)

    def has(self, seen: Seen) -> bool:
        """Return whether a state that a step saw was there before the first excluded update."""
        incarnation, version = seen
        before, versions = bisect_left(self._incarnations, incarnation), self._versions.get(incarnation, [])
        place = bisect_left(versions, version)
        return before + place + (versions[place : place + 1] == [version]) <= self.count

    def end(self, seen: Iterable[int]) -> None:
        """Set the last incarnation, from those of which the steps that belong have seen a state."""
        if self.count == len(self.applied):
            seen = (*seen, *self._lineages.keys())
        self.last = max([1, *self._incarnations[: self.count], *seen])

    @property
    def shortened(self) -> dict[int, Lineage]:
        """What its incarnations have applied in the beginning."""
        found: dict[int, Lineage] = {}
        for number in sorted(self._lineages.keys() - {END}):
            if number <= self.last:
                lineage = self._lineages[number]
                first = bisect_left(self._incarnations, number)
                pushes = lineage.pushes[: max(0, self.count - first)]
                found[number] = Lineage(number, lineage.before, lineage.inherited, pushes)
        if self.count == len(self.applied):
            return found | {END: self._lineages[END]}
        last = found[max(found)] if found else None
        return found | {END: Lineage(END, last and last.incarnation, reach(last) if last else 0)}

    def sequences(self) -> dict[str, int]:
        """Return the last update of each client in the state at the end."""
        found, last = self.shortened, dict[str, int]()
        end = found[END]
        if end.before is not None:
            for one in pushes_of(found, end.before)[: end.inherited]:
                last[one.client] = max(one.sequence, last.get(one.client, 0))
        return last


def _shards(record: Record, until: int, children: Mapping[int, object], stage: Stage) -> list[_Shard]:
    """Return the beginning of each shard's history."""
    shards = [_Shard(lineages) for lineages in record.lineages]
    notes = {sent_of(one): origin_of(*sent_of(one)) for shard in shards for _, one in shard.applied}
    sampled = max(children, default=0)
    excluded = {
        sent: origin
        for sent, origin in notes.items()
        if origin.completed > until or origin.known > sampled or not stage.has_seen(origin.incarnations)
    }
    while True:
        for shard in shards:
            shard.cut(excluded)
        # An update that was computed from one that came on another shard after an excluded one does not belong either.
        more = {
            sent: origin
            for sent, origin in notes.items()
            if sent not in excluded and not all(shard.has(seen_of(origin, n)) for n, shard in enumerate(shards))
        }
        if not more:
            break
        excluded |= more
    steps: list[Origin] = [record.origins[child_id] for child_id in children]
    steps += [origin for sent, origin in notes.items() if sent not in excluded]
    for index, shard in enumerate(shards):
        shard.end(seen_of(origin, index)[0] for origin in steps)
    return shards


def _formed(
    record: Record, until: int, children: Mapping[int, ReplayedChild], shards: Sequence[_Shard], passes: int
) -> set[Place]:
    """Return the batches: those that were sampled as such, or have an update, or could have been learnt from."""
    if record.stages[-1].config.topology.batching == "barrier":
        return {(child.replica, child.batch) for child in children.values()}
    if shards:
        return {place_of(one, passes) for shard in shards for _, one in shard.applied[: shard.count]}
    return _whole(record, until)


def _whole(record: Record, until: int) -> set[Place]:
    """Return the batches whose children had ended."""
    open_ones = {
        (child.replica, child.batch)
        for child in record.children.values()
        if child.completion is None or child.completion > until
    }
    return set(record.batches) - open_ones


def _learned(places: Iterable[Place], shards: Sequence[_Shard], passes: int) -> set[Place]:
    """Return the batches of which every shard has all updates."""
    sequences = [shard.sequences() for shard in shards]
    return {
        (replica, number)
        for replica, number in places
        if all(last_batch_of(one.get(client(replica), 0) + 1, passes) > number for one in sequences)
    }
