"""The toy problem of Real et al. 2019: strings of bits, whose fitness is the share of ones, with noise (spec T4.3)."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from child_trainer.architectures.architecture import Architecture, Kind, node
from child_trainer.outcome import Outcome
from controller.decisions import Choice, Decisions, Tokens
from controller.searcher import ChildRecord, Proposal, Searcher, View
from tests.contracts.searcher import recorded


@dataclass(frozen=True)
class BitStrings:
    """Strings of `length` bits."""

    length: int = 100

    @property
    def kind(self) -> Kind:
        return "feedforward"

    def decisions(self, completed: int) -> Decisions:
        return tuple(Choice("bit", (0, 1), place) for place in range(self.length))

    def choice_sizes(self) -> Mapping[str, int]:
        return {f"bit_{place}": 2 for place in range(self.length)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        return self.decisions(0)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return a network of as many filters as the bits say; only its name counts."""
        filters = 1 + int("".join(map(str, tokens[:12])), 2)
        return Architecture(
            "feedforward", (node("conv", "conv", "image", height=1, width=1, filters=filters),), ("conv",)
        )


@dataclass
class ToySearch:
    """A search of the bits, `at_once` children at a time."""

    searcher: Searcher
    seed: int
    at_once: int = 1
    history: list[ChildRecord] = field(default_factory=list)

    def run(self, children: int) -> "ToySearch":
        noise = random.Random(self.seed)
        while len(self.history) < children:
            number = len(self.history)
            view = View(
                parameters={},
                completed=number,
                history=lambda: self.history,
                pending=tuple,
                rng=random.Random(f"{self.seed} {number}"),
            )
            for proposal in self.searcher.ask(self.at_once, view):
                self.history.append(self._ended(proposal, noise))
        return self

    def best(self) -> float:
        return max(child.reward or 0.0 for child in self.history)

    def _ended(self, proposal: Proposal, noise: random.Random) -> ChildRecord:
        reward = fitness(proposal.tokens, noise)
        outcome = Outcome(curve=(reward,), seconds=1.0, parameters=None, flops=None, seed=len(self.history))
        return recorded(len(self.history) + 1, proposal, outcome, reward)


def fitness(tokens: Tokens, noise: random.Random) -> float:
    return min(1.0, max(0.0, sum(tokens) / len(tokens) + noise.gauss(0, 0.01)))
