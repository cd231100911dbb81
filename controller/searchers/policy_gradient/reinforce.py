"""REINFORCE with a moving-average baseline: the paper's searcher (Zoph & Le 2017, section 3.2; spec §1.5)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from controller.policies.lstm import Policy
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.space import SearchSpace, check_decisions

BASELINE = "baseline"
"""The tensor [2] that holds the baseline: moving averages of the rewards and of the constant 1.

Both start at 0 and decay equally, so that their quotient is the average without the bias of the initial value; 0 in the
second means that there is no average yet. The shard that stores it computes the average: with a hundred
replicas, a step computed from a stale copy would overshoot and oscillate.
"""


class Reinforce:
    """Samples from the policy and follows the gradient of the expected reward."""

    def __init__(self, space: SearchSpace, options: ReinforceOptions) -> None:
        check_decisions(space, "reinforce")
        self._space = space
        self._options = options
        # The policy holds no state between calls: every call loads the pulled weights into it.
        self._policy = Policy(space.choice_sizes(), hidden=options.controller_units, layers=options.controller_layers)
        self._weights = dict(self._policy.named_parameters())

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the baseline, and the policy's weights drawn from `seed`."""
        options = self._options
        self._policy.initialize(torch.Generator().manual_seed(seed), options.controller_init)
        weights = {name: value.detach().clone() for name, value in self._weights.items()}
        # The baseline comes first, so that no boundary between shards separates its two elements.
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
        """Return `n` samples of the policy."""
        self._load(view.parameters)
        decisions = self._space.decisions(view.completed)
        rollout = self._policy.sample(decisions, n, torch.Generator().manual_seed(view.rng.getrandbits(63)))
        samples = zip(rollout.tokens.tolist(), rollout.log_prob.tolist(), strict=True)
        return [
            Proposal(tokens=tuple(tokens), architecture=self._space.decode(tokens), log_prob=log_prob)
            for tokens, log_prob in samples
        ]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the policy's gradient, and the mean reward for the baseline.

        The gradient is that of -(1/m) sum_k (w_k (R_k - b) log P(tokens_k) + bonus H_k), where
        w_k is 1, or with `importance_clip` the importance weight of `_importance`, a constant for the gradient;
        R_k is the reward of child k, and b the average of earlier rewards, or for the very first children their own
        mean (spec §1.5);
        H_k is the summed entropy of the decisions along sample k. Its gradient is not the whole gradient of the
        policy's entropy: the tokens that were drawn are taken as given.
        """
        self._load(view.parameters)
        rewards = torch.tensor([_reward(child) for child in children])
        average = baseline(view.parameters)
        expected = rewards.mean().item() if average is None else average
        log_prob, entropy = self._score(children)
        importance, figures = self._importance(children, log_prob.detach())
        loss = -(importance * (rewards - expected) * log_prob).mean()
        if self._options.entropy_bonus:
            loss = loss - self._options.entropy_bonus * entropy.mean()
        names, weights = zip(*self._weights.items(), strict=True)
        # The weights of layers that no child has get no gradient, so that Adam does not count a step for them.
        by_name = zip(names, torch.autograd.grad(loss, weights, allow_unused=True), strict=True)
        gradients = {name: gradient for name, gradient in by_name if gradient is not None}
        return Update(
            gradients={BASELINE: torch.stack([rewards.mean(), torch.ones(())]), **gradients},
            figures={"baseline": expected, "entropy": entropy.mean().item(), **figures},
        )

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
        ratios = (log_prob - torch.tensor([_sampled_log_prob(child) for child in children])).exp()
        clipped = ratios.clamp(max=clip)
        share = (ratios > clip).float().mean().item()
        return clipped, {"importance_weight": clipped.mean().item(), "importance_clipped": share}

    def _score(self, children: Sequence[ChildRecord]) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies [m] float32; children of each depth are scored together."""
        by_length: dict[int, list[int]] = {}
        for i, child in enumerate(children):
            by_length.setdefault(len(child.tokens), []).append(i)
        log_prob, entropy = torch.zeros(len(children)), torch.zeros(len(children))
        for length, rows in by_length.items():
            tokens = torch.tensor([children[i].tokens for i in rows]).reshape(len(rows), length)
            scored = self._policy.score(self._space.decisions_of(length), tokens)
            index = torch.tensor(rows)
            log_prob = log_prob.index_put((index,), scored.log_prob)
            entropy = entropy.index_put((index,), scored.entropy)
        return log_prob, entropy

    @torch.no_grad()
    def _load(self, parameters: Mapping[str, Tensor]) -> None:
        """Copy the pulled weights, float32 by name, into the policy."""
        # `load_state_dict` would take as long as sampling.
        for name, weight in self._weights.items():
            weight.copy_(parameters[name])


def baseline(parameters: Mapping[str, Tensor]) -> float | None:
    """Return the average of the rewards learnt from so far, or `None` before the first."""
    total, weight = parameters[BASELINE].tolist()
    return total / weight if weight else None


def _reward(child: ChildRecord) -> float:
    """Return the child's reward."""
    assert child.reward is not None, f"child {child.id} has not ended"
    return child.reward


def _sampled_log_prob(child: ChildRecord) -> float:
    """Return the log-probability (nats) with which the child was sampled."""
    log_prob = child.log_prob
    assert log_prob is not None, f"child {child.id} has no log-probability"
    return log_prob
