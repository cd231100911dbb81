import random
from collections.abc import Sequence

from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import TrainOn
from cluster.search.needed_weights import unneeded_weights
from controller.searcher import Child, ChildRecord, Proposal, Update, View
from controller.spaces.convolutional import ConvolutionalSpace

NETWORK = ConvolutionalSpace(initial_depth=1).decode((0, 0, 0))


class Keeping:
    """Keeps the weights of child 4 alone."""

    exclusive = True

    def parameters(self, seed: int) -> tuple[()]:
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        return []

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        return Update()

    def keeps(self, view: View) -> frozenset[int]:
        return frozenset({4})


def ended(number: int, weights: str | None = "ab") -> ChildRecord:
    outcome = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0, weights=weights)
    return ChildRecord(id=number, tokens=(), architecture_id="a", reward=0.5, outcome=outcome)


def test_the_weights_that_no_child_begins_with_any_more_are_removed() -> None:
    history = [*map(ended, (1, 2, 3, 4, 5)), ended(6, None)]
    pending = ChildRecord(id=7, tokens=(), architecture_id="a", job=TrainOn(parent=2, checksum="ab"))
    view = View(parameters={}, completed=6, history=lambda: history, pending=lambda: [pending], rng=random.Random(0))
    admitted = Proposal(tokens=(), architecture=NETWORK, job=TrainOn(parent=3, checksum="ab"))
    children = [Child(id=8, proposal=admitted), Child(id=9, proposal=Proposal(tokens=(), architecture=NETWORK))]
    # 4 is kept, and 2 and 3 are parents of children that have not ended. 6 has none by its outcome, but an attempt of a
    # child that failed may have left some.
    assert unneeded_weights(Keeping(), view, children) == {1, 5, 6}
