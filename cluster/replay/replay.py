"""Replays a finished run: the recorded order of arrivals, the same samples, and weights that are equal to the bit.

No child is trained: their outcomes are in the ledger. A sample follows from the seed and from what its searcher saw, a
gradient from the batch and from what its replica had pulled, and a shard's state from the order of the pushes. So
everything that the run has computed is computed again, and compared with what the run has recorded.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from child_trainer.threads import computing_with
from cluster.replay.comparisons import compare_sample, compare_staleness, compare_states
from cluster.replay.difference import Difference
from cluster.replay.lookups import (
    Place,
    Sent,
    batches_of,
    origin_of,
    place_of,
    requests_of,
    seen_of,
    sent_of,
    steps_by_replica,
)
from cluster.replay.record import Record, Stage
from cluster.replay.result import Replayed, result_of
from cluster.replay.rows import check_rows
from cluster.replay.shard_history import ShardHistory
from cluster.runners.build import initial_values
from cluster.search.learning import checksum_of, learning_place, learnt
from cluster.search.origin import Origin
from cluster.search.seeding import derive
from controller.searcher import ChildRecord, Searcher, View
from ps.partition import partition, split
from ps.shard.messages import ShardPush, ShardState
from ps.shard.order import Applied
from ps.split_merge import merge_values, split_push
from ps.store import DEFAULT_MAX_BYTES, Push
from ps.validation import check_push, check_values


def replay(record: Record, progress: Callable[[int], object] = lambda done: None) -> Replayed:
    """Compute everything again that a run has computed, but for the trainings, and compare it with the record.

    Args:
        record: of the run.
        progress: called with the number of children whose samples were compared, now and then.

    Raises:
        Difference: at the first place where the replay differs from the record.
    """
    return replay_to_states(record, progress)[0]


def replay_to_states(
    record: Record, progress: Callable[[int], object] = lambda done: None
) -> tuple[Replayed, tuple[ShardState, ...]]:
    """Do what `replay` does; return the states of the shards at the end, too."""
    check_rows(record)
    with computing_with(1):  # as in the run: a sum's last bits depend on how it is shared out between threads
        again = _Replay(record, progress)
        return again.run(), again.states


class _Replay:
    """One replay. Steps are made as soon as the states of the shards are there that they need."""

    def __init__(self, record: Record, progress: Callable[[int], object]) -> None:
        self._record, self._progress = record, progress
        self._searchers: dict[tuple[Stage, int], Searcher] = {}
        self._passes = record.passes
        self._records = [child.record for child in record.children.values()]
        ended = [child for child in record.children.values() if child.completion is not None]
        self._history = [child.record for child in sorted(ended, key=lambda child: child.completion or 0)]
        self._requests = requests_of(record)
        self._left = {replica: list(steps)[::-1] for replica, steps in steps_by_replica(self._requests).items()}
        self._sampled: set[int] = set()
        self._batches = batches_of(record)
        self._sent: Counter[Sent] = Counter()
        self._pushes: dict[Sent, list[ShardPush]] = {}
        self._staleness: dict[Place, list[set[int]]] = {}
        self._shards = self._new_shards()

    def run(self) -> Replayed:
        """Replay the run; return what was found equal."""
        while self._compare_samples() | self._apply_pushes():
            self._progress(len(self._sampled))
        self._check_complete()
        # Where another stage begins, some shards may lack an update that others have, as where some have lost it.
        sent_again = result_of(self._record).lost > 0 or len(self._record.stages) > 1
        compare_staleness(self._record, self._staleness, sent_again=sent_again)
        for index, state in enumerate(self._record.states):
            compare_states(index, self.states[index], state)
        return result_of(self._record)

    @property
    def states(self) -> tuple[ShardState, ...]:
        """The states of the shards at the end."""
        return tuple(shard.end for shard in self._shards)

    def _new_shards(self) -> list[ShardHistory]:
        record, layout = self._record, self._record.layout
        if layout is None or not record.lineages:
            return []
        self._parts = partition(layout.shapes, layout.shards)
        initial = check_values(layout, initial_values(record.stages[0].groups), DEFAULT_MAX_BYTES)
        values = split(self._parts, initial)
        self._sent = Counter(
            sent_of(one) for shard in record.lineages for each in shard.values() for one in each.pushes
        )
        notes = [origin_of(*sent) for sent in self._sent]
        origins = [origin for origin, _ in self._requests.values()] + notes
        needed = [Counter(seen_of(origin, index) for origin in origins) for index in range(layout.shards)]
        return [
            ShardHistory(partial(record.layout_of, index), index, lineages, values[index], needed[index])
            for index, lineages in enumerate(record.lineages)
        ]

    def _compare_samples(self) -> bool:
        """Sample the children again whose parameters are there; return whether there were any."""
        before = len(self._sampled)
        for replica, steps in self._left.items():
            while steps and self._has(self._requests[replica, steps[-1]][0]):
                self._compare_request(replica, steps.pop())
        return len(self._sampled) > before

    def _compare_request(self, replica: int, step: tuple[int, ...]) -> None:
        origin, children = self._requests[replica, step]
        parameters = self._parameters(origin)
        searcher = self._searcher(self._record.stage_of_child(children[0].id), replica)
        proposals = searcher.ask(origin.asked, self._view(origin, parameters, "ask", replica, step))
        for number, child in enumerate(children):
            if number >= len(proposals):
                raise Difference(
                    f"the searcher proposes {len(proposals)} children in step {_step(step)} of replica {replica}, and"
                    f" the ledger has child {child.id} from it, too"
                )
            compare_sample(child, proposals[number])
            self._sampled.add(child.id)

    def _apply_pushes(self) -> bool:
        """Apply the pushes whose gradients can be computed; return whether there were any."""
        applied = False
        for shard in self._shards:
            while ready := [
                (incarnation, one) for incarnation, one in shard.next_pushes().items() if self._is_ready(one)
            ]:
                for incarnation, one in ready:
                    self._apply(shard, incarnation, one)
                    applied = True
        return applied

    def _is_ready(self, one: Applied) -> bool:
        sent = sent_of(one)
        if sent in self._pushes:
            return True
        batch = self._batch(one)
        return all(child.id in self._sampled for child in batch[1]) and self._has(origin_of(*sent))

    def _apply(self, shard: ShardHistory, incarnation: int, one: Applied) -> None:
        sent = sent_of(one)
        if sent not in self._pushes:
            self._pushes[sent] = self._learn(one)
        push = self._pushes[sent][shard.index]
        self._sent[sent] -= 1
        if not self._sent[sent]:
            del self._pushes[sent]
        ack = shard.apply(incarnation, push)
        place, _ = self._batch(one)
        found = self._staleness.setdefault(place, [set() for _ in self._shards])
        found[shard.index].add(ack.staleness)

    def _learn(self, one: Applied) -> list[ShardPush]:
        """Compute a push again; return its part for each shard."""
        (replica, number), children = self._batch(one)
        layout = self._record.layout
        assert layout is not None
        origin, turn = origin_of(*sent_of(one)), (one.sequence - 1) % self._passes
        view = self._view(origin, self._parameters(origin), "learn", replica, learning_place(number, turn))
        searcher = self._searcher(self._record.stage_of_update(origin.incarnations), replica)
        update = learnt(searcher, children, view, turn)
        if checksum_of(update.gradients) != origin.checksum:
            ids = ", ".join(str(child.id) for child in children)
            raise Difference(
                f"the gradient of batch {number} of replica {replica} is another one than its update {one.sequence} had"
                f" on the shards: a row of its children ({ids}) is not what it was learnt from"
            )
        versions = origin.versions if turn else self._record.batches[replica, number].versions
        push = Push(client=one.client, sequence=one.sequence, gradients=update.gradients, versions=versions)
        return split_push(self._parts, push, check_push(layout, push, DEFAULT_MAX_BYTES))

    def _batch(self, one: Applied) -> tuple[Place, Sequence[ChildRecord]]:
        """Return the batch behind a push: its replica and number, and its children."""
        place = place_of(one, self._passes)
        if place not in self._batches:
            raise Difference(
                f"the shards have update {one.sequence} of {one.client}, and the ledger lacks its batch {place[1]}"
            )
        return place, self._batches[place]

    def _view(
        self, origin: Origin, parameters: Mapping[str, Tensor], step: str, replica: int, place: tuple[int, ...]
    ) -> View:
        """Return what the searcher saw in a step."""
        history = self._history[: origin.completed]
        if len(history) < origin.completed or origin.known > len(self._records):
            raise Difference(
                f"replica {replica} has seen {origin.completed} children that had ended, of {origin.known}, and the"
                f" ledger has {len(self._history)} of {len(self._records)}"
            )
        ended = {child.id for child in history} | set(origin.unknown)
        known = self._records[: origin.known]
        pending = [replace(child, outcome=None, reward=None) for child in known if child.id not in ended]
        return View(
            parameters=parameters,
            completed=origin.completed,
            history=lambda: tuple(history),
            pending=lambda: tuple(pending),
            rng=random.Random(derive(self._record.stages[-1].config.seed, step, replica, *place)),
        )

    def _searcher(self, stage: Stage, replica: int) -> Searcher:
        if (stage, replica) not in self._searchers:
            self._searchers[stage, replica] = stage.config.make_searcher()
        return self._searchers[stage, replica]

    def _has(self, origin: Origin) -> bool:
        return all(shard.has(seen_of(origin, shard.index)) for shard in self._shards)

    def _parameters(self, origin: Origin) -> Mapping[str, Tensor]:
        layout = self._record.layout
        if layout is None or not self._shards:
            return {}
        pulled = [shard.take(seen_of(origin, shard.index)) for shard in self._shards]
        return merge_values(layout, pulled, None).values

    def _check_complete(self) -> None:
        """Raise `Difference` if something waits for a state that a shard never had."""
        missing = next(self._missing(), None)
        if missing is not None:
            raise Difference(missing)

    def _missing(self) -> Iterator[str]:
        for replica, steps in self._left.items():
            for step in steps[-1:]:
                origin, children = self._requests[replica, step]
                yield f"child {children[0].id} was sampled from {self._unreached(origin)}"
        for shard in self._shards:
            for one in shard.next_pushes().values():
                origin = origin_of(*sent_of(one))
                yield f"update {one.sequence} of {one.client} was computed from {self._unreached(origin)}"

    def _unreached(self, origin: Origin) -> str:
        for shard in self._shards:
            incarnation, version = seen_of(origin, shard.index)
            if not shard.has((incarnation, version)):
                return f"version {version} of start {incarnation} of shard {shard.index}, which it never had"
        return "children that cannot be sampled again"


def _step(step: tuple[int, ...]) -> str:
    return ".".join(map(str, step))
