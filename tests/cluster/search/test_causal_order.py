"""Causal order: whatever is done at once, and in whatever order it ends, all is as if one came after another."""

import random
from collections.abc import Mapping

import pytest

from child_trainer.outcome import Outcome
from cluster.search.causal_order import Access, CausalOrder, turns
from cluster.search.evaluator import Assignment
from tests.contracts.evaluator import assignment

CHILDREN = 120
TENSORS = "abcdefghijkl"


def outcome(child_id: int) -> Outcome:
    return Outcome(curve=(0.5,), parameters=1, flops=None, seconds=0.0, seed=child_id)


def accesses(seed: int) -> dict[int, Access]:
    """Each child writes two of the tensors and reads one more; some read without writing."""
    rng = random.Random(seed)
    found = {}
    for child_id in range(1, CHILDREN + 1):
        names = rng.sample(TENSORS, 3)
        found[child_id] = Access(frozenset(names), frozenset(names[:2] if rng.random() < 0.8 else ()))
    return found


class Workers:
    """Trains so many children at once; the next to end is drawn. A child changes what it writes by what it reads."""

    def __init__(self, accesses: Mapping[int, Access], count: int, seed: int) -> None:
        self._accesses, self._count, self._rng = accesses, count, random.Random(seed)
        self._queue: list[int] = []
        self._training: dict[int, dict[str, int]] = {}
        self.values = dict.fromkeys(TENSORS, 1)
        self.seen: dict[int, dict[str, int]] = {}
        self.most = 0

    def submit(self, *assignments: Assignment) -> None:
        self._queue.extend(one.child_id for one in assignments)

    def completed(self) -> list[tuple[int, Outcome]]:
        while self._queue and len(self._training) < self._count:
            child_id = self._queue.pop(0)
            reads = self._accesses[child_id].reads
            self._training[child_id] = self.seen[child_id] = {name: self.values[name] for name in reads}
        self.most = max(self.most, len(self._training))
        if not self._training:
            return []
        ended = self._rng.choice(sorted(self._training))
        read = self._training.pop(ended)
        for name in self._accesses[ended].writes:
            self.values[name] = hash((ended, name, *sorted(read.items()))) % 1_000_003
        return [(ended, outcome(ended))]


def train(accesses: Mapping[int, Access], workers: Workers, order: list[int]) -> list[int]:
    """Train all children, and return them in the order in which they end."""
    causal = CausalOrder(workers, lambda assignment: accesses[assignment.child_id])
    for child_id in order:
        causal.submit(assignment(child_id))
    ended: list[int] = []
    while len(ended) < len(order):
        found = [child_id for child_id, _ in causal.completed()]
        assert found, "every child that is left waits for another"
        ended += found
    return ended


@pytest.mark.parametrize("seed", range(10))
def test_many_workers_read_and_write_what_one_does(seed: int) -> None:
    known, order = accesses(seed), list(range(1, CHILDREN + 1))
    one, many = Workers(known, 1, seed), Workers(known, 4, seed)
    for child_id in order:
        one.submit(assignment(child_id))
        one.completed()
    ended = train(known, many, order)
    assert (many.values, many.seen) == (one.values, one.seen)
    assert many.most > 1
    assert ended != order


def test_a_replica_that_begins_again_hands_the_same_children_over() -> None:
    """Of children 1 to 4, 2 waits for 1, and 4 for 2 which has not begun: 3 alone overtakes."""
    names = {1: "a", 2: "ab", 3: "c", 4: "b"}
    known = {child_id: Access(frozenset(text), frozenset(text)) for child_id, text in names.items()}
    for left in ([1, 2, 3, 4], [2, 3, 4], [2, 4], [4]):
        submitted: list[int] = []
        causal = CausalOrder(Submitted(submitted), lambda assignment: known[assignment.child_id])
        for child_id in left:
            causal.submit(assignment(child_id))
        assert submitted == {4: [1, 3], 3: [2, 3], 2: [2], 1: [4]}[len(left)]


class Submitted:
    """Trains nobody."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    def submit(self, *assignments: Assignment) -> None:
        self._ids.extend(one.child_id for one in assignments)

    def completed(self) -> list[tuple[int, Outcome]]:
        return []


def test_those_who_only_read_do_not_wait_for_each_other() -> None:
    reads, writes = Access(frozenset("ab")), Access(frozenset("a"), frozenset("a"))
    assert not reads.conflicts(reads)
    assert reads.conflicts(writes)
    assert writes.conflicts(reads)
    assert writes.conflicts(writes)
    assert not writes.conflicts(Access(frozenset("bc"), frozenset("b")))


def test_turns_are_the_longest_chain_of_children_that_wait_for_each_other() -> None:
    one, two, three = (Access(frozenset(names), frozenset(names)) for names in ("a", "ab", "b"))
    assert turns([]) == 0
    assert turns([one, three, one, three]) == 2
    assert turns([one, two, three, one]) == 3
    assert turns([Access(frozenset("ab"))] * 5) == 1
