"""Fake searchers, for simulations in which the architectures do not matter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Score, Steps
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.searchers.weight_sharing.schedule import Schedule
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


@dataclass(frozen=True)
class FakeSharingSearcher(FakeSearcher):
    """Proposes steps on shared weights and paths to score, phase by phase, as the searcher with this schedule does.

    Attributes:
        schedule: what each child is for.
        exclusive: see `controller.searcher.is_exclusive`.
    """

    schedule: Schedule | None = None
    exclusive: bool = False

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return children of the present phase; none until all of the phase before have ended, or at the end."""
        assert self.schedule is not None
        pending = view.pending()
        begun = view.completed + len(pending)
        slot = self.schedule.slot(begun)
        if slot is None or any(isinstance(child.job, Steps) != bool(slot.steps) for child in pending):
            return []
        slots = [self.schedule.slot(begun + place) for place in range(n)]
        return [_job(each.steps) for each in slots if each and each.phase == slot.phase]


def _job(steps: int) -> Proposal:
    if steps:
        return Proposal(tokens=(), architecture=None, job=Steps(objective=NAME, count=steps))
    return replace(PROPOSAL, job=Score())


def fake_outcome(seed: int, seconds: float) -> Outcome:
    """Return an outcome with these seconds and an arbitrary metric."""
    return Outcome(curve=(0.5,), seconds=seconds, parameters=None, flops=None, seed=seed)


def steps_outcome(seed: int) -> Outcome:
    """Return an outcome of steps, which have no metric."""
    return Outcome(curve=(), seconds=0.0, parameters=None, flops=None, seed=seed)
