"""What a searcher sees of the children while some of them end."""

from child_trainer.outcome import Outcome
from cluster.search.views import ViewChildren
from controller.searcher import ChildRecord

OUTCOME = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0)


class Ledger:
    """A ledger of five children, of which one more ends with each call."""

    def __init__(self, ended: int) -> None:
        self.ended = ended

    def _children(self) -> list[ChildRecord]:
        self.ended += 1
        return [
            ChildRecord(
                id=number, tokens=(number,), architecture_id="", **({"outcome": OUTCOME, "reward": 1.0} if done else {})
            )
            for number in range(1, 6)
            for done in [number < self.ended]
        ]

    def completed(self) -> int:
        return sum(child.outcome is not None for child in self._children())

    def pending(self) -> list[ChildRecord]:
        return [child for child in self._children() if child.outcome is None]

    def history(self) -> list[ChildRecord]:
        return [child for child in self._children() if child.outcome is not None]


def test_a_child_that_ends_while_a_view_is_read_is_pending_in_it() -> None:
    ledger = Ledger(ended=2)
    children = ViewChildren(ledger, ledger.history)  # pyright: ignore[reportArgumentType]
    assert children.completed == 2
    assert [child.id for child in children.history()] == [1, 2]
    assert [child.id for child in children.pending()] == [3, 4, 5]
    assert all(child.outcome is None and child.reward is None for child in children.pending())
    assert ledger.ended == 5, "one child ended before the pending ones were read, and one before the history was"


def test_a_view_says_which_children_are_in_it() -> None:
    """Child 7 is sampled and ends between the two reads; child 6, which is sampled then, too, is not in it."""

    class Growing(Ledger):
        def history(self) -> list[ChildRecord]:
            late = ChildRecord(id=7, tokens=(7,), architecture_id="", outcome=OUTCOME, reward=1.0)
            return [*super().history(), late]

    ledger = Growing(ended=2)
    children = ViewChildren(ledger, ledger.history)  # pyright: ignore[reportArgumentType]
    assert children.known() == (0, ()), "nobody has looked"
    assert [child.id for child in children.pending()] == [3, 4, 5, 7]
    assert children.known() == (7, (6,))
    plain = Ledger(ended=2)
    children = ViewChildren(plain, plain.history)  # pyright: ignore[reportArgumentType]
    children.history()
    assert children.known() == (5, ())
