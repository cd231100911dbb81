"""A fake searcher, for simulations in which the architectures do not matter."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from child_trainer.outcome import Outcome
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.spaces.convolutional import ConvolutionalSpace

NAME = "stand-in"

TOKENS = (0, 0, 0)

PROPOSAL = Proposal(tokens=TOKENS, architecture=ConvolutionalSpace(initial_depth=1).decode(TOKENS))
"""A network of one layer."""


@dataclass(frozen=True)
class FakeSearcher:
    """Always proposes the same architecture; see `controller.searcher.Searcher`.

    Attributes:
        learns: whether it keeps one number on the shards and pushes zero gradients, like a searcher that learns.
        passes: how many steps it makes on each batch; see `controller.searcher.passes_of`.
    """

    learns: bool
    passes: int = 1

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return one parameter if it `learns`, else none."""
        values = {NAME: torch.zeros(1)}
        return (ParameterGroup(name=NAME, values=values, optimizer="sgd", options={"lr": 1.0}),) if self.learns else ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return the same proposal `n` times."""
        return [PROPOSAL] * n

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return a gradient of 0 if it `learns`, else none."""
        return Update(gradients={NAME: torch.zeros(1)} if self.learns else {}, figures={})


def fake_outcome(seed: int, seconds: float) -> Outcome:
    """Return an outcome with these seconds and an arbitrary metric."""
    return Outcome(curve=(0.5,), seconds=seconds, parameters=None, flops=None, seed=seed)
