"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), NASNet's searcher (spec §3.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from controller.searcher import ChildRecord, Update, View, reward_of
from controller.searchers.policy_gradient.options import PpoOptions
from controller.searchers.policy_gradient.policy_searcher import (
    BASELINE,
    PolicySearcher,
    baseline,
    baseline_gradient,
    sampled_log_prob,
)
from controller.space import SearchSpace

MAX_LOG_RATIO = 20.0
"""Upper bound for the logarithm of a policy ratio."""


class Ppo(PolicySearcher):
    """Samples from the policy, and makes several steps on each batch, whose policy ratio is clipped.

    Attributes:
        passes: the steps on each batch; see `controller.searcher.passes_of`.
    """

    def __init__(self, space: SearchSpace, options: PpoOptions) -> None:
        super().__init__("ppo", space, options)
        self._options = options
        self.passes = options.passes

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the policy's gradient, and in the last pass over a batch the mean reward for the baseline.

        The gradient is that of -(1/m) sum_k (min(r_k A_k, clip(r_k, 1 - c, 1 + c) A_k) + bonus H_k), where
        r_k is the probability of all tokens of child k now over that when they were sampled;
        A_k is its reward less the baseline b: the average of earlier rewards, or for the very first children their own
        mean; only the last pass over a batch changes b, so that with one replica all of them have the same; each pass
        pulls b anew, and other replicas may have changed it in between;
        H_k is the summed entropy of the decisions along sample k.
        With `queue_size` the loss of `_queue_loss` is added.
        """
        self._policy.load(view.parameters)
        rewards = torch.tensor([reward_of(child) for child in children])
        average = baseline(view.parameters)
        expected = rewards.mean().item() if average is None else average
        log_prob, entropy = self._score(children, self._take_drawn(children, view))
        ratios = policy_ratios(log_prob, torch.tensor([sampled_log_prob(child) for child in children]))
        surrogate, clipped = clipped_surrogate(ratios, rewards - expected, self._options.ratio_clip)
        loss = -(surrogate + self._options.entropy_bonus * entropy).mean()
        gradients = self._policy.gradients(loss + self._queue_loss(view))
        if view.turn == self.passes - 1:
            gradients[BASELINE] = baseline_gradient(rewards)
        figures = {
            "baseline": expected,
            "entropy": entropy.mean().item(),
            "policy_ratio": ratios.mean().item(),
            "ratio_clipped": clipped.float().mean().item(),
        }
        return Update(gradients=gradients, figures=figures)


def policy_ratios(log_prob: Tensor, sampled: Tensor) -> Tensor:
    """Return the probabilities now over those at the sampling [m] float32, at most exp(`MAX_LOG_RATIO`).

    A late child of an old policy may have become likelier by more than a float32 holds. Where the bound holds, the
    gradient is that at the bound, so that such a child is still made less likely if it is bad.

    Args:
        log_prob: [m] float32, nats, now.
        sampled: [m] float32, nats, at the sampling.
    """
    change = log_prob - sampled
    return (change - (change - MAX_LOG_RATIO).clamp(min=0).detach()).exp()


def clipped_surrogate(ratios: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """Return the clipped objective of each sample [m] float32, and whether the clip holds it [m] bool.

    The objective is min(r A, clip(r, 1 - c, 1 + c) A) (equation 7 of the paper). Where the clip holds, it does not
    depend on the ratio, and the sample has no gradient.

    Args:
        ratios: [m] float32, probabilities now over those at the sampling.
        advantages: [m] float32.
        clip: c.
    """
    plain, bounded = ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages
    return torch.minimum(plain, bounded), bounded < plain
