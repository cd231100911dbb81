"""What stands in for a searcher where it does not matter which architectures are tried."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from child_trainer.outcome import Outcome
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.spaces.convolutional import ConvolutionalSpace

NAME = "stand-in"

TOKENS = (0, 0, 0)

PROPOSAL = Proposal(tokens=TOKENS, architecture=ConvolutionalSpace(initial_depth=1).decode(TOKENS))
"""One layer."""


@dataclass(frozen=True)
class StandIn:
    """Proposes one architecture again and again, and learns nothing; see `controller.searcher.Searcher`.

    Attributes:
        learns: it keeps a number on the shards and pushes a gradient for it, as a searcher does that learns.
    """

    learns: bool

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """One number, if it is to be as one that learns."""
        values = {NAME: torch.zeros(1)}
        return (ParameterGroup(name=NAME, values=values, optimizer="sgd", options={"lr": 1.0}),) if self.learns else ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """The same, `n` times."""
        return [PROPOSAL] * n

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Nothing: a gradient of 0."""
        return Update(gradients={NAME: torch.zeros(1)} if self.learns else {}, figures={})


def trained(seed: int, seconds: float) -> Outcome:
    """The outcome of a child of which only the time matters."""
    return Outcome(curve=(0.5,), seconds=seconds, parameters=None, flops=None, seed=seed)
