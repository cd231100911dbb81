"""A search whose children get given accuracies."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from child_trainer.outcome import Outcome
from controller.searcher import ChildRecord, Proposal, View, kept_children
from controller.searchers.transformations.inheriting_searcher import InheritingSearcher, Scored
from tests.contracts.searcher import initial, recorded


def outcome(accuracy: float, weights: str | None = "ab") -> Outcome:
    return Outcome(curve=(accuracy,), seconds=1.0, parameters=1, flops=1, seed=0, weights=weights)


def view(
    parameters: Mapping[str, Tensor],
    ended: Sequence[ChildRecord] = (),
    pending: Sequence[ChildRecord] = (),
    seed: int = 0,
) -> View:
    return View(
        parameters=parameters,
        completed=len(ended),
        history=lambda: ended,
        pending=lambda: pending,
        rng=random.Random(seed),
    )


class Search:
    """A search whose children get given accuracies."""

    def __init__(self, searcher: InheritingSearcher) -> None:
        self.searcher = searcher
        self.parameters = initial(self.searcher)
        self.ended: list[ChildRecord] = []
        self.pending: list[ChildRecord] = []

    def ask(self, n: int, seed: int = 0) -> list[Proposal]:
        proposals = self.searcher.ask(n, view(self.parameters, self.ended, self.pending, seed))
        first = len(self.ended) + len(self.pending) + 1
        for number, proposal in enumerate(proposals, first):
            self.pending.append(replace(recorded(number, proposal, outcome(0), None), outcome=None))
        return proposals

    def end(self, *accuracies: float, weights: str | None = "ab") -> None:
        for accuracy in accuracies:
            child = self.pending.pop(0)
            own = None if weights is None else f"{weights}{child.id}"
            self.ended.append(replace(child, outcome=outcome(accuracy, own), reward=accuracy))

    @property
    def kept(self) -> frozenset[int]:
        return kept_children(self.searcher, view(self.parameters, self.ended, self.pending))

    def score(self, children: Sequence[ChildRecord]) -> Scored:
        """The decisions of children, computed again from their notes."""
        tokens = {child.id: child.tokens for child in self.ended}
        return self.searcher._grower.score([(tokens[child.notes["parent"]], child.notes) for child in children])
