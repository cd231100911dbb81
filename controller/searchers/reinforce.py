"""REINFORCE with a moving-average baseline: the paper's searcher (Zoph & Le 2017, section 3.2; spec §1.5)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from controller.policy import Policy
from controller.searcher import Child, ParameterGroup, Proposal, View
from controller.space import SearchSpace

BASELINE = "baseline"
"""The tensor [2] that holds the baseline: moving averages of the rewards and of the constant 1.

Both start at 0 and decay alike, so that their quotient is the average without the pull of the start, and 0 in
the second says that nothing has been averaged yet. It is averaged where it lives, on a shard: with a hundred
replicas a step computed from a stale copy would overshoot and oscillate.
"""


@dataclass(frozen=True, kw_only=True)
class ReinforceOptions:
    """The paper's controller and what it leaves open (spec §1.5)."""

    controller_units: int = 35
    """Hidden units of each LSTM layer."""
    controller_layers: int = 2
    """LSTM layers."""
    controller_init: float = 0.08
    """All weights start uniform in [-this, this]."""
    controller_learning_rate: float = 0.0006
    """Adam's step size."""
    baseline_decay: float = 0.95
    """Weight of the past in the moving average of rewards (unpublished; NASNet's value)."""

    def __post_init__(self) -> None:
        for name in ("controller_units", "controller_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        for name in ("controller_init", "controller_learning_rate"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"`{name}` must be a positive number, got {getattr(self, name)}")
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"`baseline_decay` must be at least 0 and below 1, got {self.baseline_decay}")


class Reinforce:
    """Samples from the policy and follows the gradient of the expected reward."""

    def __init__(self, space: SearchSpace, options: ReinforceOptions) -> None:
        self._space = space
        self._options = options
        # Holds no state between calls: every call loads the pulled weights into it.
        self._policy = Policy(space.vocabulary(), hidden=options.controller_units, layers=options.controller_layers)

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """The baseline, and the policy's weights drawn from `seed`."""
        options = self._options
        self._policy.initialize(torch.Generator().manual_seed(seed), options.controller_init)
        weights = {name: value.detach().clone() for name, value in self._policy.named_parameters()}
        # The baseline comes first so that a cut between shards does not part its two elements.
        return (
            ParameterGroup(
                name="baseline",
                values={BASELINE: torch.zeros(2)},
                optimizer="average",
                options={"decay": options.baseline_decay},
            ),
            ParameterGroup(
                name="policy", values=weights, optimizer="adam", options={"lr": options.controller_learning_rate}
            ),
        )

    def ask(self, n: int, view: View) -> list[Proposal]:
        """`n` samples of the policy."""
        self._load(view.parameters)
        decisions = self._space.decisions(view.completed)
        rollout = self._policy.sample(decisions, n, torch.Generator().manual_seed(view.rng.getrandbits(63)))
        samples = zip(rollout.tokens.tolist(), rollout.log_prob.tolist(), strict=True)
        return [
            Proposal(tokens=tuple(tokens), architecture=self._space.decode(tokens), log_prob=log_prob)
            for tokens, log_prob in samples
        ]

    def learn(self, children: Sequence[Child], view: View) -> dict[str, Tensor]:
        """The gradient of -(1/m) sum_k (R_k - b) log P(tokens_k), and the mean reward for the baseline.

        b is the average of earlier rewards; of the very first children it is their own mean (spec §1.5).
        """
        self._load(view.parameters)
        rewards = torch.tensor([_reward(child) for child in children])
        known = baseline(view.parameters)
        advantages = rewards - (rewards.mean() if known is None else known)
        loss = torch.zeros(())
        # Children of one batch may differ in depth where the schedule stepped in between (a resumed batch).
        by_length = sorted(range(len(children)), key=lambda i: len(children[i].proposal.tokens))
        for _, same in groupby(by_length, key=lambda i: len(children[i].proposal.tokens)):
            indices = list(same)
            tokens = torch.tensor([children[i].proposal.tokens for i in indices])
            decisions = self._space.decisions_of(tokens.shape[1])
            loss = loss - (advantages[indices] * self._policy.log_prob(decisions, tokens)).sum() / len(children)
        names, weights = zip(*self._policy.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        return {BASELINE: torch.stack([rewards.mean(), torch.ones(())]), **dict(zip(names, gradients, strict=True))}

    def _load(self, parameters: Mapping[str, Tensor]) -> None:
        self._policy.load_state_dict({name: parameters[name] for name in self._policy.state_dict()})


def baseline(parameters: Mapping[str, Tensor]) -> float | None:
    """The average of the rewards learnt from so far, or `None` before the first."""
    total, weight = parameters[BASELINE].tolist()
    return total / weight if weight else None


def _reward(child: Child) -> float:
    assert child.reward is not None, f"child {child.id} has not ended"
    return child.reward
