"""REINFORCE with a moving-average baseline: the paper's searcher (Zoph & Le 2017, section 3.2; spec §1.5)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from controller.policies.lstm_pass import LstmPass
from controller.searcher import ChildRecord, Update, View, reward_of
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.searchers.policy_gradient.policy_searcher import (
    BASELINE,
    PolicySearcher,
    baseline,
    baseline_gradient,
    sampled_log_prob,
)
from controller.space import SearchSpace


class Reinforce(PolicySearcher):
    """Samples from the policy and follows the gradient of the expected reward."""

    def __init__(self, space: SearchSpace, options: ReinforceOptions) -> None:
        super().__init__("reinforce", space, options)
        self._options = options

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the policy's gradient, and the mean reward for the baseline.

        The gradient is that of -(1/m) sum_k (w_k (R_k - b) log P(tokens_k) + bonus H_k), where
        w_k is 1, or with `importance_clip` the importance weight of `_importance`, a constant for the gradient;
        R_k is the reward of child k, and b the average of earlier rewards, or for the very first children their own
        mean (spec §1.5);
        H_k is the summed entropy of the decisions along sample k. Its gradient is not the whole gradient of the
        policy's entropy: the tokens that were drawn are taken as given.
        With `queue_size` the loss of `_queue_loss` is added.
        """
        rewards = torch.tensor([reward_of(child) for child in children])
        average = baseline(view.parameters)
        expected = rewards.mean().item() if average is None else average
        samples, advantages = self._take_drawn(children, view), rewards - expected
        if isinstance(samples, LstmPass) and not self._options.queue_size:
            gradients, entropy, figures = self._drawn_gradients(samples, children, advantages)
        else:
            self._policy.load(view.parameters)
            log_prob, entropy = self._score(children, samples)
            importance, figures = self._importance(children, log_prob.detach())
            loss = -(importance * advantages * log_prob).mean()
            if self._options.entropy_bonus:
                loss = loss - self._options.entropy_bonus * entropy.mean()
            gradients = self._policy.gradients(loss + self._queue_loss(view))
        return Update(
            gradients={BASELINE: baseline_gradient(rewards), **gradients},
            figures={"baseline": expected, "entropy": entropy.mean().item(), **figures},
        )

    def _drawn_gradients(
        self, samples: LstmPass, children: Sequence[ChildRecord], advantages: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, float]]:
        """Return the gradients of the loss, the entropies and the figures of children that were just drawn.

        These are the bits of PyTorch's automatic differentiation, without its graph of the loss.
        """
        rollout, share = samples.rollout, torch.tensor(-1.0) / len(children)
        importance, figures = self._importance(children, rollout.log_prob)
        bonus, of_entropy = self._options.entropy_bonus, None
        if bonus:
            of_entropy = (torch.tensor(-1.0) * bonus / len(children)).repeat(len(children))
        return samples.backward(share * (importance * advantages), of_entropy), rollout.entropy, figures

    def _importance(self, children: Sequence[ChildRecord], log_prob: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the importance weights [m] float32, min(clip, P(tokens) now / P(tokens) when sampled), and figures.

        This is truncated importance sampling (Ionides 2008) of whole children: the weight that IMPALA calls rho-bar
        (Espeholt et al. 2018, section 4.1), with the architecture as the only action. The plain gradient treats
        children of older weights as samples of the present ones. This one corrects for that, up to the bias of the
        clip, which bounds the variance.

        Args:
            children: m of them.
            log_prob: [m] float32, nats, under the present weights.
        """
        clip = self._options.importance_clip
        if clip is None:
            return torch.ones(len(children)), {}
        ratios = (log_prob - torch.tensor([sampled_log_prob(child) for child in children])).exp()
        clipped = ratios.clamp(max=clip)
        share = (ratios > clip).float().mean().item()
        return clipped, {"importance_weight": clipped.mean().item(), "importance_clipped": share}
