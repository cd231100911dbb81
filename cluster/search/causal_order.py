"""Causal order: a child begins when all earlier ones have ended whose weights it shares (NASPipe, ASPLOS 2022).

So every child reads and writes what it would in a search that trains one child after another, and the weights are the
same, to the bit, however many children are trained at once and however long each of them takes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from child_trainer.outcome import Outcome
from cluster.search.evaluator import Assignment, Evaluator


@dataclass(frozen=True, slots=True)
class Access:
    """The weights that a child has to do with, by name.

    Attributes:
        reads: which it reads.
        writes: which its steps change before the children's batch has ended.
    """

    reads: frozenset[str]
    writes: frozenset[str] = frozenset()

    def conflicts(self, other: "Access") -> bool:
        """Return whether it matters which of the two comes first."""
        return not (
            self.writes.isdisjoint(other.reads)
            and self.writes.isdisjoint(other.writes)
            and self.reads.isdisjoint(other.writes)
        )


class CausalOrder:
    """An evaluator that hands children to another one, each when no earlier one that it conflicts with is left.

    The order is that of the children's ids. Later children may overtake one that waits, but only if they do not
    conflict with it. So the first of those that have not ended never waits, and no child in training waits for another.

    Args:
        evaluator: trains the children.
        access: returns what a child has to do with; it must return the same at each call.
    """

    def __init__(self, evaluator: Evaluator, access: Callable[[Assignment], Access]) -> None:
        self._evaluator, self._access = evaluator, access
        self._left: dict[int, Access] = {}
        self._waiting: dict[int, Assignment] = {}

    def submit(self, *assignments: Assignment) -> None:
        """Hand the children over that need not wait."""
        for assignment in assignments:
            self._left[assignment.child_id] = self._access(assignment)
            self._waiting[assignment.child_id] = assignment
        self._hand_over()

    def completed(self) -> list[tuple[int, Outcome]]:
        """Return the outcomes that are ready, and hand over the children that waited for them."""
        ended = self._evaluator.completed()
        for child_id, _ in ended:
            del self._left[child_id]
        if ended:
            self._hand_over()
        return ended

    def _hand_over(self) -> None:
        if begin := [self._waiting.pop(child_id) for child_id in list(ready(self._left, self._waiting))]:
            self._evaluator.submit(*begin)


def turns(accesses: Sequence[Access]) -> int:
    """Return how many turns children take, in this order and with any number of workers: the longest chain of waits."""
    turn: list[int] = []
    for number, access in enumerate(accesses):
        turn.append(1 + max((turn[n] for n in range(number) if access.conflicts(accesses[n])), default=0))
    return max(turn, default=0)


def ready(left: dict[int, Access], waiting: Sequence[int] | dict[int, Assignment]) -> Iterator[int]:
    """Yield the children, of those that wait, that no earlier child keeps from beginning.

    Args:
        left: the children that have not ended, by id.
        waiting: the ids of those among them that have not begun.
    """
    for child_id in sorted(waiting):
        if not any(left[child_id].conflicts(left[earlier]) for earlier in left if earlier < child_id):
            yield child_id
