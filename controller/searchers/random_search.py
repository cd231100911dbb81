"""Random search: every decision is uniform, and nothing is learnt. Every searcher must beat this baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from child_trainer.no_options import NoOptions
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.space import SearchSpace, first_tokens


@dataclass(frozen=True)
class RandomSearch:
    """Samples uniformly at each decision (Zoph & Le 2017's control 2; spec §2.4)."""

    space: SearchSpace
    options: NoOptions = field(default_factory=NoOptions)

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: random search learns nothing."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return `n` independent samples."""
        samples = [first_tokens(self.space, view.completed, view.rng) for _ in range(n)]
        return [Proposal(tokens=tokens, architecture=self.space.decode(tokens)) for tokens in samples]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients."""
        return Update(gradients={}, figures={})
